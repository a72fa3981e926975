"""What a writer stands on, taken away from outside while the body runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.support.writer import Writing
from tools.chaos import outages

Outage = Callable[[Writing], AbstractContextManager[None]]


def catalog_locked(writing: Writing) -> AbstractContextManager[None]:
    """Hold the catalog so that nobody else can write to it; reading goes on."""
    return outages.catalog_locked(writing.catalog)


def catalog_away(writing: Writing) -> AbstractContextManager[None]:
    """Have the catalog answer nobody, neither readers nor writers."""
    return outages.catalog_away(writing.catalog)


@contextmanager
def table_away(writing: Writing) -> Iterator[None]:
    """Take the table's files away: the catalog knows the table and nobody can read it."""
    there = Path(writing.folder / "warehouse")
    away = there.rename(writing.folder / "away")
    try:
        yield
    finally:
        away.rename(there)
