"""The topic of directives in Kafka: read what is committed, write as the one who leads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    ProducerFenced,
)

from libs.kafka.admin import ensure_topics
from libs.kafka.client import abandon_producer, start_consumer, start_transactional, stop_client
from libs.kafka.deadline import deadline
from libs.kafka.topics import TOPIC_CONFIG
from libs.market.errors import ConflictError, UnavailableError
from libs.runtime.faultpoint import reach
from services.governor.record.records import SNAPSHOTS, TOPIC, Placed, Record, decode, encode

CLIENT_ID = "k2-governor"
CONFIG = TOPIC_CONFIG | {"retention.ms": str(7 * 86_400_000), "retention.bytes": str(2**30)}
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 3.0
STOP_TIMEOUT_S = 2.0
# A transaction takes two offsets. So many hold a snapshot, save where governors did little else
# than claim.
RECENT_OFFSETS = 64
FURTHER_BACK = 8
MOST_RECORDS = 500
# aiokafka says the first; a broker that has forgotten the producer, the others.
FENCED = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState)


class FencedError(ConflictError):
    """Another governor has taken the transactional id."""

    reason = "FENCED"


@dataclass(frozen=True, slots=True)
class Topic:
    """Where the governors of one K2 keep their record, and by what id one of them writes to it.

    `slack` lengthens what is waited for Kafka.
    """

    bootstrap: str
    name: str = TOPIC
    slack: float = 1.0

    @property
    def transactional_id(self) -> str:
        """k2-governor for k2.governor.directives."""
        return self.name.removesuffix(".directives").replace(".", "-")


class TopicReader:
    """Reads the topic from its newest snapshot on."""

    def __init__(self, topic: Topic, consumer: AIOKafkaConsumer) -> None:
        self._name, self._consumer = topic.name, consumer
        self._read_timeout_s = READ_TIMEOUT_S * topic.slack
        self._place = TopicPartition(topic.name, 0)

    @classmethod
    async def open(cls, topic: Topic) -> TopicReader:
        """Have the topic, and connect. Raises UnavailableError."""
        await ensure_topics(
            topic.bootstrap,
            [topic.name],
            partitions=1,
            config=CONFIG,
            timeout_s=CONNECT_TIMEOUT_S * topic.slack,
        )
        consumer = await start_consumer(
            topic.bootstrap, CLIENT_ID, timeout_s=CONNECT_TIMEOUT_S * topic.slack
        )
        consumer.assign([TopicPartition(topic.name, 0)])
        return cls(topic, consumer)

    async def close(self) -> None:
        with suppress(UnavailableError):
            await stop_client(self._consumer, timeout_s=STOP_TIMEOUT_S)

    async def recent(self) -> list[Placed]:
        """Read to the end, from ever further back until a snapshot is among what is found."""
        async with deadline(f"Kafka did not show {self._name}", self._read_timeout_s):
            begin = (await self._consumer.beginning_offsets([self._place]))[self._place]
        end, back = await self.end(), RECENT_OFFSETS
        while True:
            start = max(begin, end - back)
            self._consumer.seek(self._place, start)
            found = await self.to_end()
            if start == begin or any(placed.record.kind in SNAPSHOTS for placed in found):
                return found
            back *= FURTHER_BACK

    async def to_end(self) -> list[Placed]:
        """Read on to what is now the end. Raises UnavailableError."""
        found: list[Placed] = []
        end = await self.end()
        while await self._position() < end:
            found += await self.more(timeout_s=0.5)
        return found

    async def more(self, timeout_s: float) -> list[Placed]:
        """Read what has come, waiting so long for something to come. Raises UnavailableError."""
        async with deadline(f"Kafka did not show {self._name}", timeout_s + self._read_timeout_s):
            found = await self._consumer.getmany(
                self._place, timeout_ms=round(timeout_s * 1_000), max_records=MOST_RECORDS
            )
        return placed(found.get(self._place, ()))

    async def end(self) -> int:
        async with deadline(f"Kafka did not tell where {self._name} ends", self._read_timeout_s):
            return int((await self._consumer.end_offsets([self._place]))[self._place])

    async def between(self, start: int, from_us: int, to_us: int) -> AsyncGenerator[Placed]:
        """Yield the records of a time, from `start` or where that time begins."""
        first = start or await self.first_at(from_us)
        if first is None:
            return
        self._consumer.seek(self._place, first)
        end = await self.end()
        while await self._position() < end:
            for found in await self.more(timeout_s=0.5):
                if found.time_us >= to_us:
                    return
                yield found

    async def first_at(self, time_us: int) -> int | None:
        """Return the offset of the first record at or after a time; None where there is none."""
        async with deadline(f"Kafka did not show {self._name}", self._read_timeout_s):
            found = await self._consumer.offsets_for_times({self._place: time_us // 1_000})
        place = found.get(self._place)
        return None if place is None else int(place.offset)

    async def _position(self) -> int:
        async with deadline(
            f"Kafka did not tell the position in {self._name}", self._read_timeout_s
        ):
            return int(await self._consumer.position(self._place))


def placed(records: Sequence[ConsumerRecord]) -> list[Placed]:
    """Read what is a record of ours, and pass by what is none."""
    read = ((record, decode(record.value)) for record in records)
    return [Placed(r.offset, r.timestamp * 1_000, said) for r, said in read if said is not None]


class TopicWriter:
    """Writes in transactions; Kafka refuses whoever is not the newest to hold the id."""

    def __init__(self, topic: Topic, producer: AIOKafkaProducer) -> None:
        self._topic, self._producer = topic, producer

    @classmethod
    async def open(cls, topic: Topic, *, timeout_s: float) -> TopicWriter:
        """Take the transactional id: from here on all other holders are fenced.

        Raises:
            UnavailableError: Kafka did not give it in time.
        """
        producer = await start_transactional(
            topic.bootstrap, CLIENT_ID, topic.transactional_id, timeout_s=timeout_s
        )
        return cls(topic, producer)

    async def close(self) -> None:
        try:
            await stop_client(self._producer, timeout_s=STOP_TIMEOUT_S)
        except UnavailableError:
            await abandon_producer(self._producer, timeout_s=STOP_TIMEOUT_S)

    async def write(self, record: Record, *, timeout_s: float) -> int:
        """Write in a transaction of its own; return the offset.

        Raises:
            FencedError: another holds the id.
            UnavailableError: not known to have landed; this writer is of no more use.
        """
        async with deadline(f"Kafka did not record a {record.kind}", timeout_s):
            try:
                await self._producer.begin_transaction()
                said = await self._producer.send_and_wait(
                    self._topic.name, encode(record), partition=0
                )
                await reach("governor.mid_record")
                await self._producer.commit_transaction()
            except FENCED as error:
                raise FencedError("another governor has taken over") from error
        return int(said.offset)
