"""Whoever reads a run may leave, as `head` does: then it ends, for nobody hears its verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rich.console import Console

from tools.chaos.story import Event


class ReaderLeftError(Exception):
    """Nobody reads any more."""


class Reader:
    """Tells of each event until nobody reads."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._gone = asyncio.Event()

    def tell(self, event: Event) -> None:
        """Tell of an event; where nobody reads any more, of none."""
        if self._gone.is_set():
            return
        try:
            self._tell(event)
        except BrokenPipeError:
            self._gone.set()

    async def left(self) -> None:
        """Wait until nobody reads.

        Raises:
            ReaderLeftError: always.
        """
        await self._gone.wait()
        raise ReaderLeftError


class PipedConsole(Console):
    """A console whose reader may leave; rich's own would end the process there and then."""

    def on_broken_pipe(self) -> None:
        """Say so, as any other stream does."""
        raise BrokenPipeError
