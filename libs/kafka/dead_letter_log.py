"""Read a topic's dead letters: which there are, and some of them whole.

There may be very many: an index of their places is kept while one question is answered, never the
letters themselves.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from libs.kafka.client import start_consumer, stop_client
from libs.kafka.dead_letters import REPLAYED, DeadLetter, read
from libs.kafka.deadline import deadline
from libs.kafka.topics import dead_letter_topic

SHOW_TIMEOUT_S = 30.0
POLL_MS = 500
MOST_RECORDS = 2_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters; empty is all of them."""

    reason: str = ""
    symbol: str = ""
    keys: frozenset[str] = frozenset()
    replayed: bool = False

    def matches(self, letter: DeadLetter) -> bool:
        return (
            self.reason in ("", letter.reason)
            and self.symbol in ("", letter.symbol)
            and (not self.keys or letter.key.decode() in self.keys)
        )


@dataclass(slots=True)
class Index:
    """Where wanted letters stand in the dead-letter topic, and when they were replayed."""

    places: dict[str, int] = field(default_factory=dict)
    replayed_us: dict[str, int] = field(default_factory=dict)

    def add(self, record: ConsumerRecord, wanted: Wanted) -> None:
        """Take in the next record; of one written twice the first counts."""
        letter = read(record)
        key = letter.key.decode()
        if letter.reason == REPLAYED:
            self.replayed_us[key] = letter.time_us
        elif wanted.matches(letter):
            self.places.setdefault(key, record.offset)

    def offsets(self, wanted: Wanted) -> list[int]:
        """Return the places of those wanted, the oldest first."""
        return sorted(
            at for key, at in self.places.items() if wanted.replayed or key not in self.replayed_us
        )


@dataclass(frozen=True, slots=True)
class DeadLetterLog:
    """The dead letters of any topic, in Kafka."""

    bootstrap: str
    client_id: str

    async def index(self, topic: str, wanted: Wanted) -> Index:
        """Look through all of them. Raises UnavailableError."""
        index = Index()
        async with aclosing(self._scan(topic, 0)) as batches:
            async for records in batches:
                for record in records:
                    index.add(record, wanted)
        return index

    async def letters(self, topic: str, offsets: Collection[int]) -> AsyncGenerator[DeadLetter]:
        """Yield the letters at these places, the oldest first. Raises UnavailableError."""
        left = set(offsets)
        if not left:
            return
        async with aclosing(self._scan(topic, min(left))) as batches:
            async for records in batches:
                for record in records:
                    if record.offset in left:
                        left.discard(record.offset)
                        yield read(record)
                if not left:
                    return

    async def _scan(self, topic: str, start: int) -> AsyncGenerator[Sequence[ConsumerRecord]]:
        """Yield records from `start` to the end of now."""
        name = dead_letter_topic(topic)
        where = TopicPartition(name, 0)
        consumer = await start_consumer(self.bootstrap, self.client_id)
        try:
            async with deadline(f"Kafka did not show {name}", SHOW_TIMEOUT_S):
                at, end = await bounds(consumer, where, start)
            while at < end:
                async with deadline(f"Kafka did not show {name}", SHOW_TIMEOUT_S):
                    records, at = await more(consumer, where)
                yield records
        finally:
            await stop_client(consumer)


async def bounds(consumer: AIOKafkaConsumer, where: TopicPartition, start: int) -> tuple[int, int]:
    """Go to `start`, or to where the log begins; return that, and the log's end."""
    consumer.assign([where])
    begin = (await consumer.beginning_offsets([where]))[where]
    at = max(start, begin)
    consumer.seek(where, at)
    return at, (await consumer.end_offsets([where]))[where]


async def more(
    consumer: AIOKafkaConsumer, where: TopicPartition
) -> tuple[Sequence[ConsumerRecord], int]:
    """Read on; return the records, and the position after them."""
    before = await consumer.position(where)
    while (at := await consumer.position(where)) == before:
        found = await consumer.getmany(where, timeout_ms=POLL_MS, max_records=MOST_RECORDS)
        if found:
            return found[where], await consumer.position(where)
    return (), at
