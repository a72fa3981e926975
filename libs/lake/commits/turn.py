"""Commits of one process take turns, so that they are not each other's conflicts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turn:
    """A courtesy and no fence: whoever has waited long enough goes on without it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, *, wait_s: float) -> Iterator[None]:
        """Wait for the turn, but no longer than that; hold it while the body runs."""
        held = self._lock.acquire(timeout=wait_s)
        try:
            yield
        finally:
            if held:
                self._lock.release()
