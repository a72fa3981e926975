"""The backfill's reader against a Kafka that falls silent."""

from __future__ import annotations

import asyncio
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.kafka.record_columns import Keys
from libs.kafka.runs import Run
from libs.lake.commits.seam import TopicPartition as Position
from libs.market.errors import UnavailableError
from services.writer.backfill import reader
from services.writer.backfill.plan import LogSight, Piece
from services.writer.backfill.reader import BackfillReader, owed


class SilentKafka:
    """Has the position it was sent to, and nothing to read, as while no broker answers."""

    def __init__(self) -> None:
        self.at = 0

    def assign(self, partitions: list[TopicPartition]) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at = offset

    async def getmany(self, *_: TopicPartition, **__: int) -> dict[TopicPartition, list[Run]]:
        await asyncio.sleep(0)
        return {}

    async def position(self, partition: TopicPartition) -> int:
        return self.at


class SilentReader(BackfillReader):
    async def _started(self) -> AIOKafkaConsumer:
        return cast(AIOKafkaConsumer, SilentKafka())


async def test_a_log_that_falls_silent_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status says why nothing is backfilled, and a writer that stops need not wait."""
    monkeypatch.setattr(reader, "STALLED_S", 0.05)
    piece = Piece(Position("trades", 3), 10, 20, ("B",))
    with pytest.raises(UnavailableError, match="no Kafka answers"):
        await SilentReader("nowhere:1", "test").read(piece, LogSight(0, 20))


def test_what_stands_behind_a_piece_is_no_part_of_it() -> None:
    """A run may go beyond: those records are stored, or another piece's."""
    places, ones = np.arange(4), np.ones(4, np.int64)
    run = Run(10, 14, np.arange(10, 14), pa.array([b"v"] * 4), Keys(b"BBAB", places, ones))
    chunk = owed(Piece(Position("trades", 3), 10, 12, ("B",)), run, 10)
    assert chunk.offsets.tolist() == [10, 11]
    assert (chunk.start, chunk.following) == (10, 12)
    assert owed(Piece(Position("trades", 3), 10, 14, ("B",)), run, 10).offsets.tolist() == [
        10,
        11,
        13,
    ]
