"""The ledger as JSON, for its file."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.coverage import Held, Series
from libs.lake.ledger.ledger import Hole, Ledger, PartitionBook
from libs.lake.ledger.timeline import Line, Lines
from libs.market.errors import CorruptError

VERSION = 1


class LedgerFile(msgspec.Struct, frozen=True):
    """The form of the file: mappings by more than a text are lists of pairs."""

    version: int
    partitions: list[tuple[TopicPartition, PartitionBook]]
    coverage: list[tuple[Series, Held]]
    holes: list[tuple[Series, tuple[Hole, ...]]]
    duplicates: list[tuple[Series, int]]
    lines: Lines


def encode(ledger: Ledger) -> bytes:
    return msgspec.json.encode(
        LedgerFile(
            VERSION,
            sorted(ledger.partitions.items(), key=lambda item: item[0]),
            sorted(ledger.coverage.items()),
            sorted(ledger.holes.items()),
            sorted(ledger.duplicates.items()),
            ledger.lines,
        )
    )


def decode(text: bytes) -> Ledger:
    """Raises CorruptError: it is not a ledger, or of a version that this K2 does not know."""
    try:
        file = msgspec.json.decode(text, type=LedgerFile)
    except msgspec.DecodeError as error:
        raise CorruptError(f"the ledger cannot be read: {error}") from error
    if file.version != VERSION:
        raise CorruptError(f"the ledger is of version {file.version}, this K2 reads {VERSION}")
    return Ledger(
        dict(file.partitions),
        dict(file.coverage),
        dict(file.holes),
        dict(file.duplicates),
        file.lines,
    )


def encode_lines(lines: Sequence[Line]) -> bytes:
    return msgspec.json.encode(lines)


def decode_lines(text: bytes) -> tuple[Line, ...]:
    """Raises CorruptError."""
    try:
        return msgspec.json.decode(text, type=tuple[Line, ...])
    except msgspec.DecodeError as error:
        raise CorruptError(f"the time lines cannot be read: {error}") from error
