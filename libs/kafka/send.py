"""Many records to one partition in few batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from aiokafka import AIOKafkaProducer

from libs.kafka.deadline import deadline
from libs.market.errors import InvalidError

SEND_TIMEOUT_S = 30.0
MAX_RECORD_BYTES = 900_000

Header = tuple[str, bytes]


class Batch(Protocol):
    """aiokafka's BatchBuilder."""

    def append(
        self, *, timestamp: int, key: bytes, value: bytes, headers: Sequence[Header] = ...
    ) -> object: ...

    def close(self) -> None: ...


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
            sent += fill(batch, keys[sent:], values[sent:])
            acknowledgements.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*acknowledgements)


def fill(
    batch: Batch,
    keys: Sequence[bytes],
    values: Sequence[bytes],
    headers: Sequence[Sequence[Header]] = (),
) -> int:
    """Put in as many records as the batch holds, close it, and return how many; one always fits.

    `headers` is one list a record, or empty for none.
    """
    append = batch.append
    # The log stamps records itself; one look at the clock spares one a record.
    now_ms = time.time_ns() // 1_000_000
    taken = 0
    if headers:
        for key, value, said in zip(keys, values, headers, strict=True):
            if append(timestamp=now_ms, key=key, value=value, headers=said) is None:
                break
            taken += 1
    else:
        for key, value in zip(keys, values, strict=True):
            if append(timestamp=now_ms, key=key, value=value) is None:
                break
            taken += 1
    batch.close()
    return taken


def _check_sizes(topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
    size_bytes = max(map(len, keys), default=0) + max(map(len, values), default=0)
    if size_bytes > MAX_RECORD_BYTES:
        raise RecordTooLargeError(
            f"a record of {size_bytes} bytes for {topic} is larger than {MAX_RECORD_BYTES}",
            field="value",
            topic=topic,
            size_bytes=size_bytes,
        )
