"""Many records to one partition in few batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from libs.kafka.deadline import deadline
from libs.market.errors import InvalidError

SEND_TIMEOUT_S = 30.0
MAX_RECORD_BYTES = 900_000


class RecordTooLargeError(InvalidError):
    """A record larger than Kafka takes."""

    reason = "RECORD_TOO_LARGE"


async def send_values(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    keys: Sequence[bytes],
    values: Sequence[bytes],
    *,
    timeout_s: float = SEND_TIMEOUT_S,
) -> None:
    """Send records to one partition, in order, and wait until Kafka has them.

    Raises:
        RecordTooLargeError: one is larger than MAX_RECORD_BYTES; none was sent.
        UnavailableError: Kafka did not take them in time; some may have landed.
    """
    _check_sizes(topic, keys, values)
    async with deadline(f"Kafka did not take {len(values)} records of {topic}", timeout_s):
        sent = 0
        acknowledgements = []
        while sent < len(values):
            batch = producer.create_batch()
            sent = _fill(batch, keys, values, sent)
            acknowledgements.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*acknowledgements)


def _fill(batch: BatchBuilder, keys: Sequence[bytes], values: Sequence[bytes], start: int) -> int:
    now_ms = time.time_ns() // 1_000_000
    end = start
    for end in range(start, len(values)):
        if batch.append(timestamp=now_ms, key=keys[end], value=values[end]) is None:
            return end
    batch.close()
    return end + 1


def _check_sizes(topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
    size_bytes = max(map(len, keys), default=0) + max(map(len, values), default=0)
    if size_bytes > MAX_RECORD_BYTES:
        raise RecordTooLargeError(
            f"a record of {size_bytes} bytes for {topic} is larger than {MAX_RECORD_BYTES}",
            field="value",
            topic=topic,
            size_bytes=size_bytes,
        )
