"""The network between governors, Kafka and processes is cut, and the clock of a governor steps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from libs.degradation.level import Level
from tests.support.governor import governor, produce, state_at
from tests.support.governors import governors, leads, reached_by_proxy, subject
from tests.support.polling import eventually
from tests.support.processes import ROOT
from tests.support.proxies import proxy

SLOW_FALL = {"K2_GOVERNOR_COOLDOWN_S": "120"}
TTL_S = 3.0
HOUR_S = 3_600


def with_path(name: str) -> str:
    folder = ROOT / "tests/support" / name
    return os.pathsep.join(map(str, (folder, ROOT, ROOT / "protos")))


@pytest.mark.whole
async def test_leader_cut_off_from_kafka_is_replaced_and_obeyed_no_more(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Its processes still reach it: it cannot prove that it leads, so it turns them away."""
    async with proxy(kafka) as way:
        rerouted = {
            "PYTHONPATH": with_path("rerouting"),
            "K2_TEST_KAFKA": kafka,
            "K2_TEST_KAFKA_VIA": way.address,
        }
        with governors(kafka, topic, tmp_path, SLOW_FALL, rerouted) as pair:
            first, second = pair.addresses
            pair.second.pause()
            old = (await leads(first)).directive.epoch
            async with subject(pair.both, topic) as writer:
                await produce(producer, topic, 150)
                await writer.directed_by(old, Level.SOFT)
                way.cut()
                pair.second.resume()
                new = (await leads(second, after=old)).directive.epoch
                await writer.directed_by(new, Level.SOFT)
                await eventually(lambda: stands_by(first), 15)
                way.heal()
                await eventually(lambda: knows_of(first, new), 40)
                await writer.directed_by(new, Level.SOFT)
                assert writer.never_went_back()
                assert writer.never_fell()


@pytest.mark.whole
async def test_processes_cut_off_from_the_leader_keep_their_level_and_come_back(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """The leader still leads for all others; nothing is lowered for having lost it."""
    async with reached_by_proxy(kafka, topic, producer, tmp_path, SLOW_FALL) as up:
        up.way.cut()
        await eventually(lambda: up.writer.authority == "itself", 4 * TTL_S)
        assert up.writer.agent.level is Level.SOFT
        await eventually(lambda: forgotten(up.address), 4 * TTL_S)
        assert (await state_at(up.address)).leading
        up.way.heal()
        await up.writer.directed_by(up.epoch, Level.SOFT, 20)
        assert up.writer.never_fell()


@pytest.mark.whole
async def test_clock_of_a_leader_that_steps_changes_nothing(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """An hour forth and back: the same epoch leads, the level stays, directives hold."""
    step = tmp_path / "step"
    step.write_text("0")
    env = SLOW_FALL | {"PYTHONPATH": with_path("stepping"), "K2_TEST_CLOCK": str(step)}
    with governor(kafka, topic, tmp_path, env) as (_, address):
        epoch = (await leads(address)).directive.epoch
        async with subject(address, topic) as writer:
            await produce(producer, topic, 150)
            await writer.directed_by(epoch, Level.SOFT)
            for seconds in (HOUR_S, -HOUR_S, 0):
                step.write_text(str(seconds))
                told = len(writer.told)
                await eventually(lambda told=told: len(writer.told) > told + 5)  # type: ignore[misc]
                await writer.directed_by(epoch, Level.SOFT)
            state = await state_at(address)
            assert state.leading
            assert writer.never_fell()
            assert not any(told.refused_because for told in writer.told)


async def stands_by(address: str) -> bool:
    return not (await state_at(address)).leading


async def forgotten(address: str) -> bool:
    return not (await state_at(address)).processes


async def knows_of(address: str, epoch: int) -> bool:
    return (await state_at(address)).leader.epoch >= epoch
