"""What Kafka is known to have of each symbol, kept over restarts: the book.

The next process goes on from it, so that what was sent while nobody listened, or was lost in the
memory of a killed process, is seen as a gap. A page of the book counts only once Kafka has every
record from before it was made; what a later crash makes unsure is fetched again, and the writer
drops what it has already.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

log = structlog.get_logger()

FILE = "book.json"
# Beyond it the pages of a long wait for Kafka grow sparse.
MOST_PAGES = 32

IdRange = tuple[int, int]


class SymbolPage(msgspec.Struct, frozen=True):
    """Newest id that Kafka has, and newest time; it has all before too, but for `gaps`."""

    last: int
    gaps: tuple[IdRange, ...] = ()
    newest_us: int = 0


Page = Mapping[str, SymbolPage]


@dataclass(slots=True)
class Pages:
    """Pages that wait until Kafka has all that was accepted before each. Pure."""

    waiting: deque[tuple[int, Page]] = field(default_factory=deque)
    _made_at: tuple[int, int] = (0, 0)

    def make(self, accepted: int, closed: int, page: Callable[[], Page]) -> None:
        """Note how things stand after so many records and ids closed, unless as before."""
        if (accepted, closed) == self._made_at:
            return
        self._made_at = accepted, closed
        self.waiting.append((accepted, page()))
        if len(self.waiting) > MOST_PAGES:
            del self.waiting[self._densest()]

    def _densest(self) -> int:
        """Return the page, neither first nor last, whose neighbours are nearest to each other."""
        marks = [accepted for accepted, _ in self.waiting]
        inner = range(1, len(marks) - 1)
        return min(inner, key=lambda place: marks[place + 1] - marks[place - 1])

    def due(self, done: int) -> Page | None:
        """Return the newest page that counts when Kafka has so many records."""
        found = None
        while self.waiting and self.waiting[0][0] <= done:
            found = self.waiting.popleft()[1]
        return found


def read_book(folder: Path) -> dict[str, SymbolPage]:
    """Return what the last process wrote; what cannot be read is said, and counts as nothing."""
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, SymbolPage])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("book_unreadable", file=str(path), because=str(error))
        return {}


def write_book(folder: Path, page: Page) -> None:
    """Replace the book. Raises OSError from a disk that takes nothing; the old one stays then."""
    path = folder / FILE
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(page))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
