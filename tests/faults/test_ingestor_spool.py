"""Kafka asleep, disks full, processes killed: what the ingestor had taken arrives."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from libs.degradation.level import Level
from libs.kafka.admin import ensure_topics
from services.ingestor.delivering import backlog, delivery
from tests.support.directing import Director
from tests.support.disks import SmallDisk
from tests.support.ingesting import (
    Ingesting,
    contents,
    count,
    feeds_of,
    identities,
    ingesting,
    nothing_missing,
    sent,
    sent_contents,
    trades_of,
    variables,
)
from tests.support.polling import eventually
from tests.support.processes import started
from tools.kafka.broker import LocalKafka
from tools.simulator.player import PlayOptions
from tools.simulator.server import Exchange
from tools.simulator.session import generated

MIB = 2**20
MOST_IN_MEMORY = 2_000
LARGEST_BURST = 4_096
AT_PACE = PlayOptions(pace=1)
# So that every symbol trades again after a disconnection: that is what shows the gap.
UNHEARD_STOPS = PlayOptions(pace=1, hold="nobody")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[LocalKafka]:
    """Give a Kafka of the test's own, which it may put to sleep."""
    async with LocalKafka(tmp_path / "kafka") as running:
        yield running


@contextmanager
def asleep(broker: LocalKafka) -> Iterator[None]:
    """Stop the broker where it stands; its sockets stay open, and nobody answers."""
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


async def spooled(ingestor: Ingesting, records: int) -> None:
    async def enough() -> bool:
        return (await ingestor.feeds()).spool.spooled_records >= records

    await eventually(enough, 60, what=f"{records} records in the spool")


async def full(ingestor: Ingesting) -> str:
    """Wait until the spool takes no more, and return why."""

    async def why() -> str:
        return (await ingestor.feeds()).spool.full_because

    return await eventually(why, 60, what="a full spool")


@pytest.mark.whole
async def test_a_flood_while_kafka_sleeps_arrives_once_and_in_order(
    broker: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits in files, a bounded part in memory; nothing needs healing and nothing is doubled."""
    monkeypatch.setattr(delivery, "MOST_IN_FLIGHT_RECORDS", MOST_IN_MEMORY)
    monkeypatch.setattr(backlog, "MOST_WAITING_RECORDS", MOST_IN_MEMORY)
    topic = "market.crypto.trades.asleep"
    session = generated(41, symbols=5, duration_s=6, rate=4_000)
    async with (
        Exchange(session, play=AT_PACE) as exchange,
        ingesting(broker.bootstrap, topic, exchange.address, session.symbols, tmp_path) as ingestor,
    ):
        await ingestor.arrived(1_000)
        with asleep(broker):
            await spooled(ingestor, 4_000)
            waiting = (await ingestor.feeds()).spool
            assert waiting.memory_records <= 2 * MOST_IN_MEMORY + 2 * LARGEST_BURST
        await exchange.played()
        await ingestor.arrived(sum(sent(session).values()))
        feeds = await ingestor.feeds()
    trades = await trades_of(broker.bootstrap, topic)
    assert identities(trades) == sent(session)
    assert feeds.healing.healed_trades == 0
    for symbol in session.symbols:
        ids = [trade.source_sequence or 0 for trade in trades if trade.symbol == symbol]
        assert ids == sorted(ids)


@pytest.mark.whole
async def test_a_killed_ingestor_leaves_its_full_spool_to_the_next(
    broker: LocalKafka, tmp_path: Path
) -> None:
    """What was in its memory alone is fetched from the exchange: no trade is missing."""
    topic = "market.crypto.trades.killed"
    session = generated(42, symbols=5, duration_s=8, rate=4_000, time_unit="us")
    await ensure_topics(broker.bootstrap, [topic])
    async with Exchange(session, play=UNHEARD_STOPS) as exchange:
        env = variables(broker.bootstrap, topic, exchange.address, session.symbols, tmp_path)
        env["K2_INGESTOR_SPOOL_BYTES"] = "1MiB"
        with started("services.ingestor", name="ingestor-1", run_dir=tmp_path, env=env) as process:
            await process.serving()
            with asleep(broker):

                async def is_full() -> str:
                    return (await feeds_of(process)).spool.full_because

                assert "bytes are used" in await eventually(is_full, 60)
                process.kill()
            process.restart()
            await exchange.played()
            await eventually(partial(_all_in, broker.bootstrap, topic, session), 60)
            await nothing_missing(process)
            assert await asyncio.to_thread(process.stop) == 0, process.log_text()
            assert "spool_found" in process.log_text()
    trades = {(t.symbol, t.source_sequence): t for t in await trades_of(broker.bootstrap, topic)}
    assert contents(trades.values()) == sent_contents(session)


@pytest.mark.whole
async def test_a_full_disk_under_the_spool_makes_the_exchange_wait(
    broker: LocalKafka, tmp_path: Path, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is dropped for it; with room, and Kafka, everything arrives once."""
    monkeypatch.setattr(delivery, "MOST_IN_FLIGHT_RECORDS", MOST_IN_MEMORY)
    monkeypatch.setattr(backlog, "MOST_WAITING_RECORDS", MOST_IN_MEMORY)
    topic = "market.crypto.trades.fulldisk"
    session = generated(43, symbols=5, duration_s=5, rate=4_000)
    folder = small_disk.folder / "spool"
    async with (
        Exchange(session, play=AT_PACE) as exchange,
        ingesting(
            broker.bootstrap,
            topic,
            exchange.address,
            session.symbols,
            tmp_path,
            K2_INGESTOR_SPOOL_DIR=folder,
        ) as ingestor,
    ):
        await ingestor.arrived(1_000)
        with asleep(broker):
            small_disk.fill()
            assert "No space left" in await full(ingestor)
            small_disk.free()
            await spooled(ingestor, 1_000)
        await exchange.played()
        await ingestor.arrived(sum(sent(session).values()))
        assert not (await ingestor.feeds()).spool.full_because
    assert identities(await trades_of(broker.bootstrap, topic)) == sent(session)


@pytest.mark.whole
async def test_short_of_memory_with_a_full_spool_it_leaves_and_heals_afterwards(
    broker: LocalKafka, tmp_path: Path, director: Director
) -> None:
    """At CIRCUIT_BREAK it disconnects; with room again it comes back, and nothing is missing."""
    topic = "market.crypto.trades.breaks"
    session = generated(44, symbols=5, duration_s=8, rate=4_000, time_unit="us")
    async with (
        Exchange(session, play=UNHEARD_STOPS) as exchange,
        ingesting(
            broker.bootstrap,
            topic,
            exchange.address,
            session.symbols,
            tmp_path,
            spool_bytes=MIB,
            governor_address=director.address,
        ) as ingestor,
    ):
        await ingestor.arrived(1_000)
        director.order(lag=Level.CIRCUIT_BREAK, memory=Level.AGGRESSIVE)
        with asleep(broker):
            await full(ingestor)
            assert (await ingestor.feeds()).intake.taking
            director.order(memory=Level.CIRCUIT_BREAK)

            async def stopped() -> bool:
                answer = await ingestor.feeds()
                states = {feed.state for feed in answer.feeds}
                return not answer.intake.taking and len(states) == 1

            await eventually(stopped, 30)
            await eventually(lambda: not exchange.player.connections, 30)
        await exchange.played()
        director.order(memory=Level.NORMAL)
        await eventually(partial(_all_in, broker.bootstrap, topic, session), 60)
        answer = await ingestor.feeds()
    assert answer.intake.stops == 1
    assert contents(await trades_of(broker.bootstrap, topic)) == sent_contents(session)


async def _all_in(bootstrap: str, topic: str, session: object) -> bool:
    """Say whether Kafka has every trade of the session; counted first, for it is cheaper."""
    expected = sent(session)  # type: ignore[arg-type]
    if await count(bootstrap, topic) < len(expected):
        return False
    return set(identities(await trades_of(bootstrap, topic))) >= set(expected)
