"""Records that cannot be stored, kept with their reason and their bytes.

A crash may write one twice: readers go by the set of keys. What was sent again has a record of the
same key after it, with the reason REPLAYED.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, ConsumerRecord

from libs.kafka.admin import ensure_topics
from libs.kafka.deadline import deadline
from libs.kafka.send import Header
from libs.kafka.topics import TOPIC_CONFIG, dead_letter_topic, topic_of_dead_letters

PUBLISH_TIMEOUT_S = 30.0
DEAD_LETTER_PARTITIONS = 1
REPLAYED = "REPLAYED"
# Any record that its own topic took (1 MiB by Kafka's default) fits, with its reason around it.
MAX_LETTER_BYTES = 2 * 1024 * 1024
# They wait for a person, and no person is as fast as a log's retention.
DEAD_LETTER_CONFIG = {
    **TOPIC_CONFIG,
    "max.message.bytes": str(MAX_LETTER_BYTES),
    "retention.ms": "-1",
}

Position = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record: where it stood, why, and its value as it came.

    `symbol` is its key, `source` who refused it; `size_bytes` is more than there is of `raw` where
    it was too long to keep, and 0 where it was not.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    raw: bytes
    symbol: str = ""
    source: str = ""
    time_us: int = 0
    schema_id: int | None = None
    size_bytes: int = 0

    @property
    def position(self) -> Position:
        return self.topic, self.partition, self.offset

    @property
    def key(self) -> bytes:
        return f"{self.topic}/{self.partition}/{self.offset}".encode()

    @property
    def is_cut(self) -> bool:
        return self.size_bytes > len(self.raw)


async def ensure_dead_letter_topics(bootstrap: str, topics: Iterable[str]) -> None:
    """Create what is missing. Raises UnavailableError, ConfigError."""
    await ensure_topics(
        bootstrap,
        map(dead_letter_topic, topics),
        partitions=DEAD_LETTER_PARTITIONS,
        config=DEAD_LETTER_CONFIG,
    )


async def publish(
    producer: AIOKafkaProducer,
    letters: Iterable[DeadLetter],
    *,
    timeout_s: float = PUBLISH_TIMEOUT_S,
) -> None:
    """Write letters to their topics' dead letters, and wait until Kafka has them.

    Raises:
        UnavailableError: Kafka did not take them in time; write them all again.
    """
    async with deadline("Kafka did not take the dead letters", timeout_s):
        await asyncio.gather(*[await _send(producer, letter) for letter in letters])


async def _send(producer: AIOKafkaProducer, letter: DeadLetter) -> asyncio.Future[object]:
    acknowledgement: asyncio.Future[object] = await producer.send(
        dead_letter_topic(letter.topic), value=letter.raw, key=letter.key, headers=_headers(letter)
    )
    return acknowledgement


def _headers(letter: DeadLetter) -> list[Header]:
    said = {"reason": letter.reason, "detail": letter.detail}
    known = {
        "symbol": letter.symbol,
        "source": letter.source,
        "time_us": letter.time_us,
        "schema_id": letter.schema_id,
        "bytes": letter.size_bytes,
    }
    said |= {name: str(value) for name, value in known.items() if value not in ("", 0, None)}
    return [(name, text.encode()) for name, text in said.items()]


def read(record: ConsumerRecord) -> DeadLetter:
    """Turn a record of a dead-letter topic back into its letter.

    An exchange's frame that never became a record has the exchange where others have their topic.
    """
    topic, partition, offset = record.key.decode().rsplit("/", 2)
    headers = {name: value.decode() for name, value in record.headers}
    schema_id = headers.get("schema_id")
    return DeadLetter(
        topic,
        int(partition),
        int(offset),
        headers["reason"],
        headers["detail"],
        record.value or b"",
        headers.get("symbol", ""),
        headers.get("source", ""),
        int(headers.get("time_us") or headers.get("received_us") or 0),
        None if schema_id is None else int(schema_id),
        int(headers.get("bytes", 0)),
    )


def is_frame(letter: DeadLetter, dead_letters: str) -> bool:
    """Say whether a letter of this dead-letter topic was a frame, and never a record."""
    return letter.topic != topic_of_dead_letters(dead_letters)


def unique(letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
    """Drop letters written twice."""
    seen: set[Position] = set()
    for letter in letters:
        if letter.position not in seen:
            seen.add(letter.position)
            yield letter
