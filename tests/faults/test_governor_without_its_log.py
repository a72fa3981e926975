"""Kafka goes away under the governor: it directs nobody, says so, and comes back by itself."""

from __future__ import annotations

from pathlib import Path

from libs.degradation.level import Level
from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_producer, stop_client
from tests.support.governor import commit_everything, governor, produce, shows, state_at
from tests.support.governors import leads, subject
from tests.support.polling import eventually
from tools.kafka.broker import LocalKafka

TOPIC = "market.crypto.trades.without-log"
SLOW_FALL = {"K2_GOVERNOR_COOLDOWN_S": "5"}


async def test_nobody_is_directed_while_kafka_is_away(tmp_path: Path) -> None:
    """Each process goes by itself after the TTL, no lower than before; then all is restored."""
    broker = LocalKafka(tmp_path / "kafka")
    broker.start()
    try:
        await ensure_topics(broker.bootstrap, [TOPIC])
        with governor(broker.bootstrap, TOPIC, tmp_path, SLOW_FALL) as (_, address):
            epoch = (await leads(address)).directive.epoch
            async with subject(address, TOPIC) as writer:
                await _fall_behind(broker.bootstrap)
                await writer.directed_by(epoch, Level.SOFT)

                broker.stop()
                await eventually(lambda: writer.authority == "itself", 15)
                assert writer.agent.level is Level.SOFT
                await eventually(lambda: _says_so(address), 15)

                broker.start()
                epoch = (await leads(address, 40)).directive.epoch
                await writer.directed_by(epoch, Level.SOFT)
                assert writer.never_went_back()
                await commit_everything(broker.bootstrap, TOPIC, 150)
                await shows(address, Level.NORMAL)
                await writer.directed_by(epoch, Level.NORMAL)
    finally:
        broker.stop()


async def _says_so(address: str) -> bool:
    state = await state_at(address)
    return not state.leading and "without Kafka no governor leads" in state.directive.explanation


async def _fall_behind(bootstrap: str) -> None:
    producer = await start_producer(bootstrap, "test")
    try:
        await produce(producer, TOPIC, 150)
    finally:
        await stop_client(producer)
