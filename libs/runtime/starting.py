"""Imported first in a `__main__`: a signal during the imports ends the process without a word.

Those of a service take a second or more, and nothing is held meanwhile. Once the service runs,
`main` has put its own handlers in their place.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_at_once(_: int, __: FrameType | None) -> NoReturn:
    """End without unwinding: an exception could be caught inside an import."""
    os._exit(0)


for _number in STOP_SIGNALS:
    signal.signal(_number, end_at_once)
