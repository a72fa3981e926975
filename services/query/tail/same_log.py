"""Does the log that is read stand under the table's offsets? Looked at beside the reading."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import pyarrow as pa
from aiokafka import TopicPartition

from libs.kafka.same_log import IDENTITY, Log, Partition, StoredRow, why_another
from libs.lake.files.index import FileEntry
from libs.market.errors import K2Error
from libs.wire.schema import TRADE_SCHEMA
from services.query.offsets import Offsets, each, offset_at
from services.query.reading import sql
from services.query.reading.engine import Reader
from services.query.state import State

FindRows = Callable[[State, Mapping[Partition, int]], Awaitable[Mapping[Partition, StoredRow]]]


class AnotherLogError(K2Error):
    """The topic is not the one the table was filled from; `partitions` are those that tell."""

    reason = "ANOTHER_LOG"
    code = "FAILED_PRECONDITION"

    def __init__(self, reasons: Mapping[Partition, str]) -> None:
        super().__init__("; ".join(sorted(reasons.values())))
        self.partitions = frozenset(reasons)


class LogCheck:
    """Compares the last record below the seam, where log and table both have it."""

    def __init__(self, log: Log, find_rows: FindRows) -> None:
        self._log = log
        self._find_rows = find_rows
        self._stored: Mapping[Partition, StoredRow] = {}
        self._stored_of: Mapping[Partition, int] = {}

    async def check(self, state: State, begins: Offsets) -> None:
        """Look once.

        Raises:
            AnotherLogError: the log has another trade there.
            UnavailableError, KafkaError: it cannot be read.
        """
        last = last_below(state.seam, begins)
        moved = {p: offset for p, offset in last.items() if self._stored_of.get(p) != offset}
        kept = {p: row for p, row in self._stored.items() if p in last and p not in moved}
        found = await self._find_rows(state, moved) if moved else {}
        self._stored, self._stored_of = {**kept, **found}, last
        asked = {partition: last[partition] for partition in self._stored}
        logged = await self._log.read(asked) if asked else {}
        reasons = {p: why_another(p, row, logged.get(p)) for p, row in self._stored.items()}
        if others := {p: reason for p, reason in reasons.items() if reason}:
            raise AnotherLogError(others)


def starts(
    topic: str, wanted: Offsets, begins: Mapping[int, int], ends: Mapping[int, int]
) -> dict[TopicPartition, int]:
    """Return where to read from: the wanted offset, or the log's start where that is later.

    Raises:
        AnotherLogError: the log ends before the wanted offset.
    """
    at = {partition: offset_at(wanted, topic, partition) for partition in begins}
    reasons = {
        (topic, partition): f"{topic} partition {partition} was read up to offset {offset}, but"
        f" that log ends at {ends[partition]}: this is another log under the same name"
        for partition, offset in at.items()
        if offset > ends[partition]
    }
    if reasons:
        raise AnotherLogError(reasons)
    return {TopicPartition(topic, p): max(at[p], begin) for p, begin in begins.items()}


def last_below(seam: Offsets, begins: Offsets) -> dict[Partition, int]:
    """Return the last offset below the seam of every partition whose log still has it."""
    return {
        (topic, partition): offset - 1
        for topic, partition, offset in each(seam)
        if topic in begins and offset > offset_at(begins, topic, partition)
    }


def stored_rows(
    state: State, offsets: Mapping[Partition, int], reader: Reader
) -> dict[Partition, StoredRow]:
    """Read from data files what the table has at these offsets; nothing where it has no row."""
    files = [file for file in state.index.files if holds_one(file, offsets)]
    if not files:
        return {}
    found = reader.read(sql.rows_at(files, offsets, IDENTITY, state.index.columns))
    rows = found.cast(pa.schema([TRADE_SCHEMA.field(name) for name in IDENTITY])).to_pylist()
    return {(row["kafka_topic"], row["kafka_partition"]): row for row in rows}


def holds_one(file: FileEntry, offsets: Mapping[Partition, int]) -> bool:
    return any(
        file.topic in ("", topic)
        and file.partition_min <= partition <= file.partition_max
        and file.offset_min <= offset <= file.offset_max
        for (topic, partition), offset in offsets.items()
    )
