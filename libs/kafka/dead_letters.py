"""Records that cannot be stored, kept with their reason and their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, ConsumerRecord

from libs.kafka.deadline import deadline
from libs.kafka.topics import dead_letter_topic

PUBLISH_TIMEOUT_S = 30.0
DEAD_LETTER_PARTITIONS = 1

Position = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record: where it stood, why, and its value as it came."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    raw: bytes

    @property
    def position(self) -> Position:
        return self.topic, self.partition, self.offset

    @property
    def key(self) -> bytes:
        return f"{self.topic}/{self.partition}/{self.offset}".encode()


async def publish(
    producer: AIOKafkaProducer,
    letters: Iterable[DeadLetter],
    *,
    timeout_s: float = PUBLISH_TIMEOUT_S,
) -> None:
    """Write letters to their topics' dead letters, and wait until Kafka has them.

    A crash may write one twice: readers go by the set of keys.

    Raises:
        UnavailableError: Kafka did not take them in time; write them all again.
    """
    async with deadline("Kafka did not take the dead letters", timeout_s):
        await asyncio.gather(*[await _send(producer, letter) for letter in letters])


async def _send(producer: AIOKafkaProducer, letter: DeadLetter) -> asyncio.Future[object]:
    acknowledgement: asyncio.Future[object] = await producer.send(
        dead_letter_topic(letter.topic),
        value=letter.raw,
        key=letter.key,
        headers=[("reason", letter.reason.encode()), ("detail", letter.detail.encode())],
    )
    return acknowledgement


def read(record: ConsumerRecord) -> DeadLetter:
    """Turn a record of a dead-letter topic back into its letter."""
    topic, partition, offset = record.key.decode().rsplit("/", 2)
    headers = {name: value.decode() for name, value in record.headers}
    return DeadLetter(
        topic, int(partition), int(offset), headers["reason"], headers["detail"], record.value
    )


def unique(letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
    """Drop letters written twice."""
    seen: set[Position] = set()
    for letter in letters:
        if letter.position not in seen:
            seen.add(letter.position)
            yield letter
