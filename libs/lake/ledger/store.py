"""Ledger files: written once, on the disk before a commit names them, read once.

They lie beside the tables and not in one, for orphan removal by other tools would delete them
there. What is read is kept by location: a file of that name never changes.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from contextlib import suppress
from itertools import chain

from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata

from libs.lake.commits.seam import LEDGER_KEY, Seam, keeper_of_seam, summary_text
from libs.lake.ledger.codec import decode, decode_lines, encode, encode_lines
from libs.lake.ledger.ledger import EMPTY_LEDGER, Ledger, with_lines
from libs.lake.ledger.timeline import (
    Chunk,
    Line,
    Lines,
    chunk_for,
    closing,
    hourly,
    offsets_at,
    regrouping,
)
from libs.lake.table.durable import make_durable
from libs.market.errors import CorruptError, K2Error, UnavailableError

KEPT = 16


class MissingLedgerError(K2Error):
    """The table names a ledger that is gone or damaged; without it nobody knows what is held."""

    reason = "MISSING_LEDGER"
    code = "DATA_LOSS"


class _Kept:
    """The last ledgers read or written, by location."""

    def __init__(self) -> None:
        self._ledgers: OrderedDict[str, Ledger] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, location: str) -> Ledger | None:
        with self._lock:
            return self._ledgers.get(location)

    def put(self, location: str, ledger: Ledger) -> Ledger:
        with self._lock:
            self._ledgers[location] = ledger
            while len(self._ledgers) > KEPT:
                self._ledgers.popitem(last=False)
        return ledger


_kept = _Kept()


def ledger_folder(warehouse: str, metadata: TableMetadata) -> str:
    return f"{warehouse.rstrip('/')}/_k2/{metadata.table_uuid}"


def ledger_location(metadata: TableMetadata, snapshot_id: int | None = None) -> str:
    """Return where the ledger of the head, or of the snapshot named, is; "" where it has none.

    A foreign `replace` has the ledger of the rows it rewrote, as it has their seam.

    Raises:
        MissingSeamError: another tool wrote the snapshot.
    """
    head = metadata.current_snapshot()
    snapshot = head if snapshot_id is None else metadata.snapshot_by_id(snapshot_id)
    return "" if snapshot is None else summary_text(keeper_of_seam(metadata, snapshot), LEDGER_KEY)


def read(io: FileIO, location: str) -> Ledger:
    """Return the ledger at a location that a snapshot names; that of "" is empty.

    Raises:
        MissingLedgerError: it is gone or damaged.
        UnavailableError: the store does not answer.
    """
    if not location:
        return EMPTY_LEDGER
    kept = _kept.get(location)
    return kept if kept is not None else _kept.put(location, decoded(io, location))


def decoded(io: FileIO, location: str) -> Ledger:
    try:
        return decode(content(io, location))
    except CorruptError as error:
        raise missing(location, error.message) from error


def write(io: FileIO, folder: str, ledger: Ledger) -> str:
    """Write a ledger under a name of its own; it is on the disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    lines = settled(io, folder, ledger.lines)
    ledger = with_lines(ledger, lines)
    location = put(io, f"{folder}/ledger-{uuid.uuid4()}.json", encode(ledger))
    _kept.put(location, ledger)
    return location


def seam_at_time(io: FileIO, lines: Lines, time_us: int) -> Seam:
    """Return the seam as it stood when the minute of `time_us` began, reading one file at most.

    Raises:
        MissingLedgerError, UnavailableError: as `read`.
    """
    chunk = chunk_for(lines, time_us)
    return offsets_at(lines.open if chunk is None else read_lines(io, chunk), time_us)


def settled(io: FileIO, folder: str, lines: Lines) -> Lines:
    """Move the lines of closed hours to files, and few large files in the place of many."""
    done, still_open = closing(lines.open)
    chunks = [*lines.chunks, *((write_lines(io, folder, done),) if done else ())]
    if done:
        now_us = done[-1].time_us
        for group, thin in list(regrouping(chunks, now_us)):
            every = list(chain.from_iterable(read_lines(io, chunk) for chunk in group))
            at = chunks.index(group[0])
            chunks[at : at + len(group)] = [
                write_lines(io, folder, hourly(every) if thin else every, thinned=thin)
            ]
    return Lines(tuple(chunks), tuple(still_open))


def read_lines(io: FileIO, chunk: Chunk) -> tuple[Line, ...]:
    try:
        return decode_lines(content(io, chunk.location))
    except CorruptError as error:
        raise missing(chunk.location, error.message) from error


def write_lines(io: FileIO, folder: str, lines: list[Line], *, thinned: bool = False) -> Chunk:
    location = put(io, f"{folder}/lines-{uuid.uuid4()}.json", encode_lines(lines))
    return Chunk(lines[0].time_us, lines[-1].time_us, location, thinned)


def files_of(ledger: Ledger, location: str) -> set[str]:
    """Return the files that a ledger is made of: itself and those of its time lines."""
    return {location, *(chunk.location for chunk in ledger.lines.chunks)} - {""}


def put(io: FileIO, location: str, text: bytes) -> str:
    """Write a file, on the disk when this returns. Raises OSError; no part of it stays then."""
    try:
        with io.new_output(location).create() as stream:
            stream.write(text)
        make_durable([location])
    except FileExistsError:
        raise
    except OSError:
        with suppress(OSError):
            io.delete(location)
        raise
    return location


def content(io: FileIO, location: str) -> bytes:
    try:
        with io.new_input(location).open() as stream:
            return bytes(stream.read())
    except FileNotFoundError as error:
        raise missing(location, "it is not there") from error
    except OSError as error:
        raise UnavailableError(f"the ledger {location} cannot be read: {error}") from error


def missing(location: str, why: str) -> MissingLedgerError:
    return MissingLedgerError(
        f"the table's ledger {location} cannot be used ({why}): restore the file, or roll the table"
        " back to a snapshot whose ledger is there",
        location=location,
    )
