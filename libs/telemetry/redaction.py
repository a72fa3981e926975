"""What must not be read in a log, an error or a trace."""

from __future__ import annotations

import re

_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]*@")


def without_password(text: str) -> str:
    """Put *** for each password that a URL in the text carries."""
    return _PASSWORD_IN_URL.sub(r"\1:***@", text)
