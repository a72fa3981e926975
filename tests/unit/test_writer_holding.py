"""The consumer's part in holding a partition: back, pause, probe, and on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.kafka.admin import Retention
from libs.kafka.unreadable import UnreadableBatchError
from libs.market.errors import UnavailableError
from services.writer.batching.batcher import Batcher
from services.writer.intake.holding import Holder, Holding
from services.writer.intake.holds import Hold, Stage
from services.writer.intake.outbox import Outbox
from services.writer.intake.pauses import Pauses
from services.writer.intake.positions import Partition, Positions, Verdict
from services.writer.messages import Accept, Held, RawChunk, Released, Resume
from tests.support.clock import ManualClock

P3 = ("trades", 3)
RECORDS_TAKEN = 50


@dataclass
class FakeKafka:
    """Remembers where it was sent to."""

    sought: list[tuple[Partition, int]] = field(default_factory=list)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.sought.append(((tp.topic, tp.partition), offset))

    def highwater(self, tp: TopicPartition) -> int:
        return 500


@dataclass
class FakeMailbox:
    sent: list[object] = field(default_factory=list)

    def offer(self, message: object) -> bool:
        self.sent.append(message)
        return True


@dataclass
class FakeBatcher:
    mailbox: FakeMailbox = field(default_factory=FakeMailbox)


class Bench:
    """A holder of one partition, placed at 100 and read up to 150."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.kafka = FakeKafka()
        self.batcher = FakeBatcher()
        self.retention: Retention | None = Retention()
        self.positions = Positions()
        self.positions.assign([P3])
        self.positions.place(P3, 100, assignment=self.positions.assignment)
        self.outbox = Outbox(cast(Batcher, self.batcher), hand_over_s=1)
        self.holder = Holder(Holding(self.ask, self.clock), self.positions, self.outbox)
        self.generation = self.positions.generation(P3) or 0
        self.read()

    def read(self) -> RawChunk:
        start = self.positions.expected(P3) or 0
        following = start + RECORDS_TAKEN
        self.positions.judge(P3, first=start, following=following)
        return RawChunk(P3, self.generation, start, following, None, None)  # type: ignore[arg-type]

    async def ask(self, topics: Iterable[str]) -> Mapping[str, Retention]:
        if self.retention is None:
            raise UnavailableError("Kafka is away")
        return dict.fromkeys(topics, self.retention)

    def obey(self, message: Held | Released | Resume) -> None:
        self.holder.obey(message, cast(AIOKafkaConsumer, self.kafka))

    def hold(self) -> None:
        self.obey(Held(Hold(P3, self.generation, 100, 30, "FRAMING", 1, 10.0)))

    def refuse(self) -> None:
        error = UnreadableBatchError(TopicPartition(*P3), 152, ValueError("no frame"))
        self.holder.refuse(error, cast(AIOKafkaConsumer, self.kafka))

    async def probe(self) -> None:
        await self.holder.probe(lambda _: 500)

    @property
    def paused(self) -> bool:
        pauses = Pauses()
        self.holder.pause(pauses)
        return P3 in pauses.held

    def sent(self) -> list[object]:
        self.outbox.offer()
        return self.batcher.mailbox.sent


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_held_partition_goes_back_and_waits(bench: Bench) -> None:
    """To where the burst begins, until it is time for a probe."""
    bench.hold()
    assert bench.kafka.sought == [(P3, 100)]
    assert bench.positions.expected(P3) == 100
    assert bench.paused
    bench.clock.advance(29)
    await bench.probe()
    assert bench.paused


async def test_a_probe_reads_one_batch(bench: Bench) -> None:
    """Then it waits for the verdict, and for the next probe where that is bad."""
    bench.hold()
    bench.clock.advance(30)
    await bench.probe()
    assert not bench.paused
    bench.holder.fetched([bench.read()])
    assert bench.paused
    assert bench.holder.holds[P3].stage is Stage.ASKED
    since_us = bench.holder.holds[P3].since_us
    bench.hold()
    assert bench.positions.expected(P3) == 100
    assert bench.holder.holds[P3].since_us == since_us
    bench.clock.advance(30)
    await bench.probe()
    bench.holder.fetched([bench.read()])
    bench.obey(Released(P3, bench.generation))
    assert not bench.paused
    assert bench.positions.expected(P3) == 150


async def test_resumed_by_hand_it_reads_again_from_the_start(bench: Bench) -> None:
    """Also in the middle of a probe, whose verdict comes late."""
    bench.hold()
    bench.clock.advance(30)
    await bench.probe()
    bench.holder.fetched([bench.read()])
    reply: asyncio.Future[tuple[Partition, ...]] = asyncio.get_running_loop().create_future()
    bench.obey(Resume("trades", None, reply))
    assert await reply == (P3,)
    assert bench.sent() == [Accept(P3, bench.generation, 500)]
    assert (bench.positions.expected(P3), bench.paused) == (100, False)
    bench.hold()
    bench.obey(Released(P3, bench.generation))
    assert (bench.positions.expected(P3), bench.paused) == (100, False)


async def test_another_topic_is_not_resumed(bench: Bench) -> None:
    """Nor another partition."""
    bench.hold()
    for topic, partition in (("quotes", None), ("trades", 4)):
        reply: asyncio.Future[tuple[Partition, ...]] = asyncio.get_running_loop().create_future()
        bench.obey(Resume(topic, partition, reply))
        assert await reply == ()
    assert bench.paused


async def test_a_placing_that_is_over_holds_nothing(bench: Bench) -> None:
    """The group has handed the partition out anew: what comes is judged anew."""
    bench.hold()
    bench.positions.assign([P3])
    bench.positions.place(P3, 100, assignment=bench.positions.assignment)
    assert not bench.paused
    bench.hold()
    assert not bench.paused


async def test_half_of_the_retention_ends_a_hold(bench: Bench) -> None:
    """What is held is accepted up to the log's end."""
    bench.retention = Retention(bytes=8_000)
    bench.hold()
    bench.clock.advance(30)
    await bench.probe()
    assert bench.sent() == [Accept(P3, bench.generation, 500)]
    assert not bench.paused


async def test_a_retention_that_cannot_be_asked_for_stops_no_probe(bench: Bench) -> None:
    """Kafka is away: it is asked again with the next one."""
    bench.retention = None
    bench.hold()
    bench.clock.advance(30)
    await bench.probe()
    assert not bench.paused
    assert bench.sent() == []


async def test_a_batch_that_is_none_holds_its_partition_where_it_stands(bench: Bench) -> None:
    """At the position expected, so that a marker before it is no hole; it says what is wrong."""
    bench.refuse()
    assert bench.paused
    assert bench.positions.expected(P3) == 150
    assert {*bench.kafka.sought} == {(P3, 150)}
    assert "offset 152 of trades, partition 3" in bench.holder.holds[P3].why


async def test_what_kafka_forgot_of_other_partitions_is_sought_again(bench: Bench) -> None:
    """Also where it comes a second time: what begins past it then is no hole of the log."""
    others = [("trades", number) for number in (4, 5)]
    bench.positions.assign([P3, *others])
    for partition in (P3, others[0]):
        bench.positions.place(partition, 100, assignment=bench.positions.assignment)
    assert bench.positions.judge(others[0], first=200, following=300) is Verdict.SEEK
    bench.refuse()
    assert bench.kafka.sought == [(P3, 100), (others[0], 100), (P3, 100)]
    assert bench.positions.judge(others[0], first=200, following=300) is Verdict.SEEK


async def test_a_batch_that_is_none_is_tried_again_until_it_is_one(bench: Bench) -> None:
    """Then the partition goes on by itself: nobody else is asked."""
    bench.refuse()
    bench.clock.advance(30)
    await bench.probe()
    assert not bench.paused
    bench.refuse()
    assert bench.paused
    bench.clock.advance(30)
    await bench.probe()
    bench.holder.fetched([bench.read()])
    assert not bench.paused
    assert not bench.holder.holds
    assert bench.positions.expected(P3) == 200


async def test_no_retention_and_no_hand_passes_by_a_batch_that_is_none(bench: Bench) -> None:
    """There is nothing to dead-letter: by hand it is only tried at once."""
    bench.retention = Retention(bytes=1)
    bench.refuse()
    bench.clock.advance(30)
    await bench.probe()
    bench.refuse()
    reply: asyncio.Future[tuple[Partition, ...]] = asyncio.get_running_loop().create_future()
    bench.obey(Resume("trades", None, reply))
    assert await reply == (P3,)
    assert not bench.paused
    assert bench.sent() == []
    assert bench.positions.expected(P3) == 150


async def test_a_batch_of_a_placing_that_is_over_holds_nothing(bench: Bench) -> None:
    """The partition is another writer's, or is being placed."""
    bench.positions.revoke()
    bench.refuse()
    assert not bench.holder.holds
