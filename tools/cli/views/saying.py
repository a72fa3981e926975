"""One sentence on stderr, and no more on stdout."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.text import Text


def say_error(sentence: str) -> None:
    """Say what went wrong."""
    _say(("error: ", "bold red"), sentence)


def warn(sentence: str) -> None:
    """Say what is amiss though the command goes on."""
    _say(("warning: ", "bold yellow"), sentence)


def let_go_of_stdout() -> None:
    """Write nothing more there: what is still buffered must not be tried again at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(prefix: tuple[str, str], sentence: str) -> None:
    """Print whole words on a terminal, whole lines elsewhere."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(prefix, sentence), soft_wrap=not console.is_terminal)
