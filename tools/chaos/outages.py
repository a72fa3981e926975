"""The catalog, taken away from outside while the body runs."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from libs.market.errors import UnavailableError

# The bytes of SQLite's shared-memory file whose locks its readers and writers take in WAL mode.
SQLITE_WAL_LOCKS = (120, 8)


@contextmanager
def catalog_locked(catalog: Path) -> Iterator[None]:
    """Hold the catalog so that nobody else can write to it; reading goes on.

    Raises:
        UnavailableError: it cannot be held: others write without end, or it is no catalog.
    """
    with closing(sqlite3.connect(catalog, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            raise UnavailableError(f"{catalog} cannot be locked: {error}") from error
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


@contextmanager
def catalog_away(catalog: Path) -> Iterator[None]:
    """Have the catalog answer nobody, neither readers nor writers.

    The locks are of the open file: another of this process, closed meanwhile, does not free them.
    """
    with Path(f"{catalog}-shm").open("r+b") as shared:
        fcntl.fcntl(shared, fcntl.F_OFD_SETLKW, _flock(fcntl.F_WRLCK))
        try:
            yield
        finally:
            fcntl.fcntl(shared, fcntl.F_OFD_SETLKW, _flock(fcntl.F_UNLCK))


def _flock(kind: int) -> bytes:
    """Return the C struct that locks or frees SQLite's bytes."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, *SQLITE_WAL_LOCKS, 0)
