"""What a writer stands on, taken away from outside while the body runs."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from tests.support.writer import Writing

Outage = Callable[[Writing], AbstractContextManager[None]]

# The bytes of SQLite's shared-memory file whose locks its readers and writers take in WAL mode.
SQLITE_WAL_LOCKS = (120, 8)


@contextmanager
def catalog_locked(writing: Writing) -> Iterator[None]:
    """Hold the catalog so that nobody else can write to it; reading goes on."""
    with closing(sqlite3.connect(writing.catalog, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def catalog_away(writing: Writing) -> Iterator[None]:
    """Have the catalog answer nobody, neither readers nor writers.

    The locks are of the open file: another of this process, closed meanwhile, does not free them.
    """
    with Path(f"{writing.catalog}-shm").open("r+b") as shared:
        fcntl.fcntl(shared, fcntl.F_OFD_SETLKW, flock(fcntl.F_WRLCK))
        yield
        fcntl.fcntl(shared, fcntl.F_OFD_SETLKW, flock(fcntl.F_UNLCK))


def flock(kind: int) -> bytes:
    """Return the C struct that locks or frees SQLite's bytes."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, *SQLITE_WAL_LOCKS, 0)


@contextmanager
def table_away(writing: Writing) -> Iterator[None]:
    """Take the table's files away: the catalog knows the table and nobody can read it."""
    there = Path(writing.folder / "warehouse")
    away = there.rename(writing.folder / "away")
    try:
        yield
    finally:
        away.rename(there)
