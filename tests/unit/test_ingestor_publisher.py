"""The publisher and its Kafka, when one of them fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from libs.runtime.supervisor import Supervisor
from libs.wire.trades import decode_trade
from services.ingestor.feeds import FeedState, Rates
from services.ingestor.parsing.binance import Rejected, parse
from services.ingestor.publishing import publisher as module
from services.ingestor.publishing import tracing
from services.ingestor.publishing.encoding import encode
from services.ingestor.publishing.messages import Ended, Received
from tests.support.actors import ScriptedError
from tests.support.binance import stamps, table, trade_frame
from tests.support.polling import eventually
from tests.support.publishing import middle
from tests.unit.test_ingestor_delivery import FakeKafka

TABLE = table("BTCUSDT", "ETHUSDT")


def received(*ids: int, connection: int = 1, rejected: tuple[Rejected, ...] = ()) -> Received:
    frames = [trade_frame(t=id_) for id_ in ids]
    return Received(connection, parse(frames, stamps(len(ids)), TABLE).trades, rejected)


def ids_in(kafka: FakeKafka) -> list[int | None]:
    return [decode_trade(value).source_sequence for value in kafka.log]


async def stopped(supervisor: Supervisor, running: asyncio.Task[None]) -> None:
    await supervisor.stop()
    await running


async def test_a_failure_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The burst in hand was checked once and is encoded after the restart."""
    failures = [ScriptedError("once")]

    def fail_once(*arguments: object) -> object:
        if failures:
            raise failures.pop()
        return encode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "encode", fail_once)
    kafka = FakeKafka(room=100)
    between = await middle(kafka.open, TABLE, tmp_path)
    publisher, supervisor = between.publisher, between.supervisor()
    running = asyncio.create_task(supervisor.run())
    await publisher.mailbox.put(received(1, 2, 3))
    await publisher.mailbox.put(received(3, 4))
    await eventually(lambda: len(kafka.log) == 5)
    await stopped(supervisor, running)
    await between.close()
    assert ids_in(kafka) == [1, 2, 3, 3, 4]
    assert publisher.feeds("BINANCE", dict.fromkeys(TABLE.symbols, FeedState.LIVE))[0].gaps == 0


async def test_everything_in_the_mailbox_is_in_kafka_when_it_has_stopped(tmp_path: Path) -> None:
    """Asked to stop, it drains and flushes; an overlapping connection's copies are left out."""
    kafka = FakeKafka(room=100)
    between = await middle(kafka.open, TABLE, tmp_path)
    publisher, supervisor = between.publisher, between.supervisor()
    await publisher.mailbox.put(received(1, 2))
    await publisher.mailbox.put(received(2, 3, connection=2))
    await publisher.mailbox.put(Ended(1))
    await publisher.mailbox.put(received(4, connection=2))
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: supervisor.started)
    await stopped(supervisor, running)
    await between.close()
    assert ids_in(kafka) == [1, 2, 3, 4]


async def test_a_sampled_burst_carries_its_traceparent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the headers of its first record alone."""
    monkeypatch.setattr(tracing, "_TRACER", TracerProvider().get_tracer("test"))
    kafka = FakeKafka(room=100)
    between = await middle(kafka.open, TABLE, tmp_path)
    await between.publisher.mailbox.put(received(1, 2))
    supervisor = between.supervisor()
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: len(kafka.log) == 2)
    await stopped(supervisor, running)
    await between.close()
    assert [[name for name, _ in headers] for headers in kafka.headers] == [["traceparent"], []]


def test_rates_cover_the_last_ten_whole_seconds() -> None:
    """And fall to nothing when nothing comes."""
    rates = Rates(2)
    codes = received(*range(20)).trades.codes
    rates.add(codes, 100.5)
    rates.add(codes, 101.5)
    assert rates.per_second(102.0).tolist() == [4.0, 0.0]
    assert rates.per_second(111.0).tolist() == [2.0, 0.0]
    assert rates.per_second(200.0).tolist() == [0.0, 0.0]
