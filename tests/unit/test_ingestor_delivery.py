"""Delivery to Kafka, against a Kafka that refuses, hesitates and goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
)
from aiokafka.record.memory_records import MemoryRecords

from libs.kafka.ready import ReadyBatch, key_fields, sections
from libs.kafka.send import Batch, Header
from libs.market.clock import SystemClock
from libs.market.errors import UnavailableError
from libs.runtime.backoff import Backoff
from services.ingestor.delivering import delivery
from services.ingestor.delivering.delivery import Delivery
from services.ingestor.delivering.records import Records
from tests.support.clock import ManualClock
from tests.support.polling import eventually


@dataclass
class FakeBatch:
    """Holds `room` records."""

    room: int
    values: list[bytes] = field(default_factory=list)
    headers: list[Sequence[Header]] = field(default_factory=list)

    def append(
        self, *, timestamp: int, key: bytes, value: bytes, headers: Sequence[Header] = ()
    ) -> object:
        if len(self.values) == self.room:
            return None
        self.values.append(value)
        self.headers.append(headers)
        return object()

    def close(self) -> None: ...


def read_out(batch: ReadyBatch) -> FakeBatch:
    """Take a batch's records as a broker would."""
    found = MemoryRecords(batch._build()).next_batch()
    records = list(found)
    return FakeBatch(len(records), [r.value for r in records], [r.headers for r in records])


class FakeKafka:
    """A log, and producers to it that do as `script` says, one entry a batch."""

    def __init__(self, *script: KafkaError | str | None, room: int = 2) -> None:
        self.log: list[bytes] = []
        self.headers: list[Sequence[Header]] = []
        self.script = list(script)
        self.room = room
        self.opened = 0
        self.failing_opens = 0
        self.held: list[tuple[asyncio.Future[object], list[bytes]]] = []

    async def open(self) -> FakeKafka:
        if self.failing_opens:
            self.failing_opens -= 1
            raise UnavailableError("no Kafka")
        self.opened += 1
        return self

    def create_batch(self) -> FakeBatch:
        return FakeBatch(self.room)

    async def send_batch(
        self, batch: Batch | ReadyBatch, topic: str, *, partition: int
    ) -> asyncio.Future[object]:
        batch = read_out(batch) if isinstance(batch, ReadyBatch) else batch
        assert isinstance(batch, FakeBatch)
        step = self.script.pop(0) if self.script else None
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if step == "hold":
            self.held.append((future, batch.values))
        elif isinstance(step, KafkaTimeoutError | KafkaConnectionError | ProducerClosed):
            raise step
        else:
            self.log += batch.values
            self.headers += batch.headers
            future.set_result(None)
        return future

    async def stop(self) -> None: ...

    def release(self) -> None:
        for future, values in self.held:
            self.log += values
            future.set_result(None)
        self.held.clear()

    def refuse(self, error: KafkaError) -> None:
        for future, _ in self.held:
            future.set_exception(error)
        self.held.clear()


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "BACKOFF", Backoff(0, 0))


def records(*numbers: int, partition: int = 0) -> Records:
    values = [str(n).encode() for n in numbers]
    return Records("trades", partition, [b"k"] * len(values), values)


def delivering(kafka: FakeKafka) -> Delivery:
    return Delivery(kafka.open, clock=SystemClock(), on_acknowledged=lambda _, __: None)


async def test_records_beyond_a_batch_go_into_the_next() -> None:
    """In order, each once."""
    kafka = FakeKafka()
    to_kafka = delivering(kafka)
    to_kafka.add([records(1, 2, 3, 4, 5), records(), records(6)])
    await to_kafka.flush()
    assert kafka.log == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert to_kafka.unacknowledged == 0


def with_section(whole: Records) -> Records:
    made = sections(key_fields(whole.keys), pa.array(whole.values, pa.binary()), [0, len(whole)])
    assert made is not None
    return replace(whole, section=made[0])


@pytest.mark.parametrize("traced", [False, True])
async def test_records_in_kafkas_own_form_are_each_there_once(traced: bool) -> None:
    """A trace is no part of that form: its burst goes the other way, in parts."""
    header = [("traceparent", b"00-1-2-01")]
    whole = with_section(records(1, 2, 3, 4, 5))
    kafka = FakeKafka()
    to_kafka = delivering(kafka)
    to_kafka.add([replace(whole, headers=[header, [], [], [], []]) if traced else whole])
    await to_kafka.flush()
    assert kafka.log == [b"1", b"2", b"3", b"4", b"5"]
    assert [*map(list, kafka.headers)] == [header if traced else [], [], [], [], []]


def test_a_part_of_records_is_not_all_of_them_in_kafkas_own_form() -> None:
    """It would bring all of them once more."""
    part = with_section(records(1, 2, 3)).part(1)
    assert (list(part.values), part.section) == ([b"2", b"3"], None)


async def test_what_is_not_taken_is_offered_until_it_is() -> None:
    """Kafka is away for a while: nothing is lost, doubled or out of order."""
    kafka = FakeKafka(KafkaTimeoutError(), KafkaConnectionError(), None, KafkaTimeoutError())
    to_kafka = delivering(kafka)
    to_kafka.add([records(1, 2, 3)])
    await to_kafka.flush()
    assert kafka.log == [b"1", b"2", b"3"]
    assert kafka.opened == 1


async def test_refused_records_go_again_in_order_through_a_new_producer() -> None:
    """A refusal breaks the numbering: those sent after it are refused too."""
    kafka = FakeKafka(None, "hold", "hold")
    to_kafka = delivering(kafka)
    await to_kafka.open()
    kafka.failing_opens = 2
    to_kafka.add([records(1, 2, 3, 4, 5, 6)])
    flushing = asyncio.create_task(to_kafka.flush())
    await eventually(lambda: len(kafka.held) == 2)
    kafka.refuse(OutOfOrderSequenceNumber())
    await flushing
    assert kafka.log == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert kafka.opened == 2


async def test_a_producer_that_is_broken_is_replaced() -> None:
    """Its very hand-over raises."""
    kafka = FakeKafka(None, ProducerClosed())
    to_kafka = delivering(kafka)
    to_kafka.add([records(1, 2, 3)])
    await to_kafka.flush()
    assert kafka.log == [b"1", b"2", b"3"]
    assert kafka.opened == 2


async def test_records_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many unacknowledged, sending waits: that is the back-pressure."""
    monkeypatch.setattr(delivery, "MOST_IN_FLIGHT_RECORDS", 4)
    kafka = FakeKafka("hold", "hold", "hold")
    to_kafka = delivering(kafka)
    to_kafka.add([records(*range(10))])
    sending = asyncio.create_task(to_kafka.send())
    await eventually(lambda: len(kafka.held) == 3)
    assert not sending.done()
    kafka.release()
    await sending


async def test_what_a_closed_delivery_did_not_deliver_goes_with_the_next_producer() -> None:
    """The actor restarts: unacknowledged records come first."""
    kafka = FakeKafka("hold")
    to_kafka = delivering(kafka)
    to_kafka.add([records(1, 2)])
    await to_kafka.send()
    await to_kafka.close()
    assert to_kafka.unacknowledged == 2
    await to_kafka.open()
    to_kafka.add([records(3)])
    await to_kafka.flush()
    assert kafka.log == [b"1", b"2", b"3"]


async def test_a_silent_kafka_is_told_from_one_with_nothing_to_do() -> None:
    """Silence counts from the last acknowledgement, and only while something waits."""
    kafka, clock = FakeKafka("hold"), ManualClock()
    to_kafka = Delivery(kafka.open, clock=clock, on_acknowledged=lambda _, __: None)
    clock.advance(100)
    assert to_kafka.silent_s == 0
    to_kafka.add([records(1, 2)])
    await to_kafka.send()
    clock.advance(3)
    assert to_kafka.silent_s == 3
    kafka.release()
    await to_kafka.flush()
    assert to_kafka.silent_s == 0
