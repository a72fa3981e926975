"""What a writer has committed of a small log, modelled: rows, seam and ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa
from hypothesis import strategies as st

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.seam import TopicPartition
from libs.lake.files.index import SnapshotIndex, index_of
from libs.lake.ledger.claims import claims_of
from libs.lake.ledger.ledger import (
    EMPTY_LEDGER,
    Account,
    Ledger,
    entered,
)
from libs.lake.table.naming import fresh_columns
from libs.lake.table.tables import TRADES_SCHEMA
from services.query.tail.chunk import Chunk, chunk_of
from tests.support.query import FIRST_US, renumbered, trade_rows

IMPORTS = "import:0123"


PARTITION = {"A": 0, "B": 0, "C": 1}


SYMBOLS = st.sampled_from(sorted(PARTITION))


PARTITIONS = st.sampled_from(sorted(set(PARTITION.values())))


COLUMNS = ("symbol", "source_sequence", "kafka_topic", "kafka_partition", "kafka_offset")


class Record(NamedTuple):
    """A trade on the log; without an id nothing tells that it was sent again."""

    symbol: str
    id: int | None
    partition: int
    offset: int
    topic: str = TRADES_BINANCE


def batch_of(records: list[Record]) -> pa.RecordBatch:
    rows = [
        renumbered(
            trade_rows(
                record.symbol,
                [record.offset],
                times_us=[FIRST_US + (record.id or 0)],
                partition=record.partition,
                topic=record.topic,
            ),
            [record.id],
        )
        for record in records
    ]
    return pa.concat_batches(rows)


def chunk(records: list[Record]) -> Chunk | None:
    return chunk_of(TRADES_BINANCE, batch_of(records)) if records else None


def same(record: Record) -> tuple[str, int | None, int]:
    """Name the trade; where it has no id, its record."""
    return record.symbol, record.id, -1 if record.id is not None else record.offset


@dataclass(frozen=True)
class Table:
    """What a writer has committed, and what it says of the rest."""

    stored: tuple[Record, ...] = ()
    seam: tuple[tuple[str, int, int], ...] = ()
    ledger: Ledger = EMPTY_LEDGER

    @property
    def offsets(self) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for topic, partition, offset in self.seam:
            found.setdefault(topic, {})[partition] = offset
        return found

    def at(self, partition: int, topic: str = TRADES_BINANCE) -> int:
        return self.offsets.get(topic, {}).get(partition, 0)

    def moved(self, partition: int, end: int, topic: str = TRADES_BINANCE) -> Table:
        seam = {(t, p): offset for t, p, offset in self.seam} | {(topic, partition): end}
        return replace(self, seam=tuple((*at, offset) for at, offset in seam.items()))

    def with_rows(self, records: list[Record], account: Account, partition: int) -> Table:
        """Store what is new of these, first ones first."""
        ids = {same(record) for record in self.stored if record.id is not None}
        new: list[Record] = []
        for record in records:
            if same(record) not in ids:
                new.append(record)
            if record.id is not None:
                ids.add(same(record))
        claims = [claims_of(batch_of(new))] if new else []
        position = TopicPartition(TRADES_BINANCE, partition)
        ledger = entered(self.ledger, {position: account}, claims)
        return replace(self, stored=(*self.stored, *new), ledger=ledger)

    def index(self) -> SnapshotIndex:
        index = index_of(7, fresh_columns(TRADES_SCHEMA), self.offsets, {})
        return replace(index, ledger=self.ledger)
