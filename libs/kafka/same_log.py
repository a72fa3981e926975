"""Is Kafka's log the one that the table was filled from? Its newest stored record can tell.

A topic that was made anew under its old name, and is longer by now than the table's offset, looks
like one to go on with: only what stands at an offset says that it is another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.kafka.client import start_consumer, stop_client
from libs.kafka.deadline import deadline, unreachable
from libs.kafka.unreadable import UnreadableBatchError, name_unreadable
from libs.wire.trades import TradeDecoder

log = structlog.get_logger()

READ_TIMEOUT_S = 10.0
POLL_MS = 100
# One record is wanted of each partition; Kafka sends its whole batch all the same.
FETCH_BYTES = 1024
# What tells one trade from another, of any log.
IDENTITY = (
    "exchange",
    "symbol",
    "trade_id",
    "timestamp",
    "ingest_timestamp",
    "price",
    "quantity",
    "kafka_topic",
    "kafka_partition",
    "kafka_offset",
)

Partition = tuple[str, int]
StoredRow = Mapping[str, object]


class Log(Protocol):
    """What stands in the log at given offsets."""

    async def read(self, offsets: Mapping[Partition, int]) -> Mapping[Partition, StoredRow]:
        """Return the trades there; where none can be read (a marker, a damaged batch), nothing."""
        ...


@dataclass(frozen=True, slots=True)
class KafkaLog:
    """Reads single records, beside any group and its positions."""

    bootstrap: str
    client_id: str
    decoder: TradeDecoder

    async def read(self, offsets: Mapping[Partition, int]) -> Mapping[Partition, StoredRow]:
        """Read one record of each partition. Raises UnavailableError, KafkaError."""
        values = await self._values(offsets)
        return {p: row for p, value in values.items() if (row := self._row(p, offsets[p], value))}

    async def _values(self, offsets: Mapping[Partition, int]) -> dict[Partition, bytes | None]:
        consumer = await start_consumer(
            self.bootstrap, self.client_id, max_partition_fetch_bytes=FETCH_BYTES
        )
        waiting = {TopicPartition(*p): offset for p, offset in offsets.items()}
        found: dict[Partition, bytes | None] = {}
        try:
            name_unreadable(consumer)
            consumer.assign(list(waiting))
            seek(consumer, waiting)
            async with deadline(unreachable(self.bootstrap), READ_TIMEOUT_S):
                while waiting:
                    found |= await next_values(consumer, waiting)
        finally:
            await asyncio.shield(stop_client(consumer))
        return found

    def _row(self, partition: Partition, offset: int, value: bytes | None) -> StoredRow | None:
        topic, number = partition
        decoded = self.decoder.decode([value], topic=topic, partition=number, offsets=[offset])
        rows: list[StoredRow] = decoded.batch.to_pylist()
        return rows[0] if rows else None


async def next_values(
    consumer: AIOKafkaConsumer, waiting: dict[TopicPartition, int]
) -> dict[Partition, bytes | None]:
    """Return what has come of the records waited for, and wait for those no longer."""
    found: dict[Partition, bytes | None] = {}
    try:
        fetched = await consumer.getmany(*waiting, timeout_ms=POLL_MS, max_records=1)
    except UnreadableBatchError as error:
        log.info("record_not_compared", why=error.message)
        del waiting[error.position]
        seek(consumer, waiting)
        return found
    for tp, records in fetched.items():
        if records[0].offset == waiting[tp]:
            found[tp.topic, tp.partition] = records[0].value
    for tp in [tp for tp, at in waiting.items() if await consumer.position(tp) > at]:
        del waiting[tp]
    return found


def seek(consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
    for tp, offset in offsets.items():
        consumer.seek(tp, offset)


def why_another(partition: Partition, stored: StoredRow, logged: StoredRow | None) -> str:
    """Say what the log has in place of the table's trade; empty where nothing speaks against it.

    No trade proves nothing.
    """
    if logged is None or all(logged[name] == value for name, value in stored.items()):
        return ""
    topic, number = partition
    return (
        f"{topic} partition {number} has {named(logged)} at offset {stored['kafka_offset']}, where"
        f" the table has {named(stored)}: this is another log under the same name"
    )


def named(row: StoredRow) -> str:
    return f"{row['symbol']} trade {row['trade_id']}"
