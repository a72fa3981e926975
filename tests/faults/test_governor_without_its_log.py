"""Kafka goes away under the governor: the level holds, and lag is read again when it is back."""

from __future__ import annotations

from pathlib import Path

from libs.degradation.level import Level
from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_producer, stop_client
from tests.support.governor import (
    attached,
    commit_everything,
    governor,
    produce,
    shows,
    state_at,
)
from tests.support.polling import eventually
from tools.kafka.broker import LocalKafka

TOPIC = "market.crypto.trades.without-log"


async def test_level_holds_while_kafka_is_away_and_recovers_after(tmp_path: Path) -> None:
    """Far beyond the cooldown nothing is lowered; with lag known to be gone, everything is."""
    broker = LocalKafka(tmp_path / "kafka")
    broker.start()
    try:
        await ensure_topics(broker.bootstrap, [TOPIC])
        with governor(broker.bootstrap, TOPIC, tmp_path) as (process, address):
            await process.serving()
            async with attached(address, TOPIC) as writer:
                await _fall_behind(broker.bootstrap)
                await writer.at(Level.SOFT)

                broker.stop()
                await eventually(lambda: _known(address, known=False), 15)
                assert await _holds_for(address, seconds=4)
                assert writer.agent.level is Level.SOFT
                assert writer.agent.applied.authority == "governor"

                broker.start()
                await eventually(lambda: _known(address, known=True), 30)
                await commit_everything(broker.bootstrap, TOPIC, 150)
                await shows(address, Level.NORMAL)
                await writer.at(Level.NORMAL)
    finally:
        broker.stop()


async def _fall_behind(bootstrap: str) -> None:
    producer = await start_producer(bootstrap, "test")
    try:
        await produce(producer, TOPIC, 150)
    finally:
        await stop_client(producer)


async def _known(address: str, *, known: bool) -> bool:
    return (await state_at(address)).groups[0].known is known


async def _holds_for(address: str, *, seconds: float) -> bool:
    """Whether the level is SOFT in every answer, cooldowns (1 s) and TTLs (3 s) on end."""
    start = (await state_at(address)).processes[0].last_report_time.ToMilliseconds()

    async def passed() -> bool:
        state = await state_at(address)
        assert state.directive.level == Level.SOFT + 1
        assert not state.groups[0].known
        now = state.processes[0].last_report_time.ToMilliseconds()
        return now - start >= seconds * 1_000

    return await eventually(passed, 30)
