"""A governor that is slow: its words take seconds, it runs by fits and starts, lag swings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from k2.governor.v1 import governor_pb2 as pb

from libs.degradation.level import Damping, Level
from tests.support.governor import (
    STEADY,
    Attached,
    attached,
    governor,
    produce,
    state_at,
)
from tests.support.governors import (
    Pair,
    following,
    governors,
    leading,
    leads,
    reached_by_proxy,
    subject,
)
from tests.support.polling import eventually
from tests.support.processes import Process

SLOW_FALL = {"K2_GOVERNOR_COOLDOWN_S": "120"}
TTL_S = 10.0
# There and back, and two pushes: within the TTL.
SLOW_S = 1.5
# What is sent now arrives when nobody waits for it any more.
ENDLESS_S = 600.0
REST_S = 0.3


@pytest.mark.whole
async def test_words_that_take_seconds_are_obeyed_within_their_ttl_and_not_beyond(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Up through the levels by a slow network; slower than the TTL, the process goes by itself."""
    env = SLOW_FALL | {"K2_GOVERNOR_TTL_S": f"{TTL_S:g}"}
    async with reached_by_proxy(kafka, topic, producer, tmp_path, env) as up:
        up.way.slow_s = SLOW_S
        await produce(producer, topic, 100)
        await up.writer.directed_by(up.epoch, Level.GRACEFUL)

        up.way.slow_s = ENDLESS_S
        await eventually(lambda: up.writer.authority == "itself", what="by itself")
        assert up.writer.agent.level is Level.GRACEFUL
        assert (await state_at(up.address)).leading

        up.way.slow_s = 0.0
        up.way.end()
        await up.writer.directed_by(up.epoch, Level.GRACEFUL)
        assert up.writer.never_fell()
        assert up.writer.never_went_back()


@pytest.mark.whole
async def test_leader_that_runs_by_fits_and_starts_is_followed_or_replaced(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Stopped for shorter than the other's patience, then for longer: the level only rises."""
    with governors(kafka, topic, tmp_path, SLOW_FALL) as pair:
        await pair.second.serving()
        pair.second.pause()
        old = (await leads(pair.addresses[0])).directive.epoch
        pair.second.resume()
        async with subject(pair.both, topic) as writer:
            await produce(producer, topic, 150)
            await writer.directed_by(old, Level.SOFT)
            async with pulsing(pair.first, stopped_s=0.6, running_s=0.4):
                await produce(producer, topic, 100)
                await writer.directed_by(old, Level.GRACEFUL)
            async with pulsing(pair.first, stopped_s=2.5, running_s=0.5):
                new = (await leads(pair.addresses[1], after=old)).directive.epoch
                await produce(producer, topic, 100)
                await writer.directed_by(new, Level.AGGRESSIVE)
            state = await eventually(lambda: led(pair), what="one leads, one stands by")
            await writer.directed_by(state.directive.epoch, Level.AGGRESSIVE)
            assert new > old
            assert writer.never_fell()
            assert writer.never_went_back()


@pytest.mark.whole
async def test_lag_that_swings_across_a_threshold_makes_each_step_down_wait_longer(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Doubled with every four rises after a fall, four times as long at most."""
    damping = Damping()
    # However late a report comes, it counts: nothing else is to move the level.
    fresh = {"K2_GOVERNOR_REPORT_FRESH_S": "60"}
    env = STEADY | fresh | {"K2_GOVERNOR_COOLDOWN_S": f"{REST_S:g}"}
    with governor(kafka, topic, tmp_path, env) as (process, address):
        await process.serving()
        async with attached(address, topic) as writer:
            rests_s = []
            for swing in range(2 * damping.reversals_to_double + 2):
                await produce(producer, topic, 160)
                await writer.at(Level.SOFT)
                rests_s.append((await state_at(address)).cooldown.ToMilliseconds() / 1_000)
                catch_up(writer, topic, 10 * (swing + 1))
                await writer.at(Level.NORMAL)
    once, twice, four_times = (REST_S * factor for factor in (1, 2, damping.most_cooldown_factor))
    assert rests_s == [*[once] * 4, *[twice] * 4, *[four_times] * 2]


def catch_up(writer: Attached, topic: str, end: int) -> None:
    """Have the writer say that it has decoded every partition to there."""
    positions: Mapping[tuple[str, int], int] = {(topic, number): end for number in range(16)}
    writer.own = replace(writer.own, positions=positions)


async def led(pair: Pair) -> pb.State | None:
    """Return the state of the one that leads, where the other stands by."""
    for leader, other in (pair.addresses, pair.addresses[::-1]):
        state = await leading(leader)
        if state is not None and await following(other, leader):
            return state
    return None


@asynccontextmanager
async def pulsing(process: Process, *, stopped_s: float, running_s: float) -> AsyncIterator[None]:
    """Stop a process and let it go on, again and again, while the body runs."""

    async def pulse() -> None:
        while True:
            process.pause()
            await asyncio.sleep(stopped_s)
            process.resume()
            await asyncio.sleep(running_s)

    task = asyncio.create_task(pulse())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        process.resume()
