"""Two governors: one is killed, sleeps or is cut off, and nobody is directed by two."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from libs.degradation.level import Level
from tests.support.governor import commit_everything, produce, state_at
from tests.support.governors import (
    Pair,
    Subject,
    following,
    follows,
    governors,
    leading,
    leads,
    subject,
)
from tests.support.polling import eventually
from tests.support.processes import Process, arm, disarm

SLOW_FALL = {"K2_GOVERNOR_COOLDOWN_S": "120"}
TTL_S = 3.0
ON_THE_WAY_TO_PUSH = (
    "governor.before_record",
    "governor.mid_record",
    "governor.after_record",
    "governor.before_push",
)
ON_THE_WAY_TO_LEAD = ("governor.before_claim", "governor.after_claim")


@pytest.mark.whole
async def test_killed_leader_is_replaced_and_the_level_stays(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """With the highest level that was applied, however little the lag.

    That it takes ten seconds at most holds by a clock that no other work slows: the simulation's.
    """
    env = SLOW_FALL | {"K2_GOVERNOR_TTL_S": "10"}
    with governors(kafka, topic, tmp_path, env) as pair:
        await pair.first.serving()
        await pair.second.serving()
        first, second = await settled(pair)
        async with subject(pair.both, topic) as writer:
            await produce(producer, topic, 350)
            await writer.directed_by(await epoch_of(first), Level.AGGRESSIVE)
            await commit_everything(kafka, topic, 350)
            process_at(pair, first).kill()
            epoch = (await leads(second)).directive.epoch
            await writer.directed_by(epoch, Level.AGGRESSIVE)
            assert writer.never_fell()
            assert writer.never_went_back()


async def test_leader_asleep_before_a_push_is_fenced_when_it_wakes(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Its successor takes over meanwhile, and no process hears the old one again."""
    await prove_a_sleeper_is_fenced("governor.before_push", kafka, topic, producer, tmp_path)


@pytest.mark.whole
@pytest.mark.parametrize("point", ON_THE_WAY_TO_PUSH[:-1])
async def test_leader_asleep_at_a_record_is_fenced_when_it_wakes(
    point: str, kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """What it had not recorded is never recorded; what it had is obeyed by nobody."""
    await prove_a_sleeper_is_fenced(point, kafka, topic, producer, tmp_path)


@pytest.mark.whole
@pytest.mark.parametrize("point", ON_THE_WAY_TO_LEAD)
async def test_governor_asleep_at_its_claim_does_no_harm_when_it_wakes(
    point: str, kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Whichever of the two leads in the end, one does, and the level stays."""
    faults = tmp_path / "faults"
    arm(faults, point)
    env = SLOW_FALL | {"K2_GOVERNOR_TTL_S": f"{TTL_S:g}"}
    with governors(kafka, topic, tmp_path, env, {"K2_FAULT_DIR": str(faults)}) as pair:
        pair.second.pause()
        pair.first.reached(point, faults)
        pair.first.pause()
        pair.second.resume()
        epoch = (await leads(pair.addresses[1])).directive.epoch
        async with subject(pair.both, topic) as writer:
            await produce(producer, topic, 250)
            await writer.directed_by(epoch, Level.GRACEFUL)
            disarm(faults, point)
            pair.first.resume()
            leader, standby = await settled(pair)
            await writer.directed_by(await epoch_of(leader), Level.GRACEFUL)
            await follows(standby, leader)
            assert writer.never_fell()
            assert writer.never_went_back()


async def prove_a_sleeper_is_fenced(
    point: str, kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Stop the leader at a point, have the other take over, and wake the first."""
    faults = tmp_path / "faults"
    env = SLOW_FALL | {"K2_GOVERNOR_TTL_S": f"{TTL_S:g}"}
    with governors(kafka, topic, tmp_path, env, {"K2_FAULT_DIR": str(faults)}) as pair:
        first, second = pair.addresses
        await pair.second.serving()
        pair.second.pause()
        old = (await leads(first)).directive.epoch
        async with (
            subject(pair.both, topic, "writer-1") as writer,
            # Knows of the first alone, and so would be the last to obey it.
            subject(first, topic, "writer-2") as faithful,
        ):
            await produce(producer, topic, 150)
            for one in (writer, faithful):
                await one.directed_by(old, Level.SOFT)
            arm(faults, point)
            pair.first.reached(point, faults)
            pair.first.pause()
            pair.second.resume()
            new = (await leads(second, after=old)).directive.epoch
            fenced_at_s = time.monotonic()
            assert new > old
            await writer.directed_by(new, Level.SOFT)
            await eventually(lambda: faithful.authority == "itself", 3 * TTL_S)
            disarm(faults, point)
            pair.first.resume()
            await eventually(lambda: knows_of(first, new), 20)
            for one in (writer, faithful):
                await one.directed_by(new, Level.SOFT)
                assert one.never_went_back()
                assert last_obeyed_s(one, new) <= fenced_at_s + TTL_S


def last_obeyed_s(one: Subject, new: int) -> float:
    """Return when the last directive of an epoch before the new one was obeyed."""
    return max(told.at_s for told in one.told if told.epoch < new and not told.refused_because)


async def knows_of(address: str, epoch: int) -> bool:
    """Whether a governor knows that one leads under this epoch, or a newer one."""
    return (await state_at(address)).leader.epoch >= epoch


def process_at(pair: Pair, address: str) -> Process:
    return pair.first if address == pair.addresses[0] else pair.second


async def settled(pair: Pair) -> tuple[str, str]:
    """Wait until one leads and the other says so; return the leader's address and the other's."""

    async def so() -> tuple[str, str] | None:
        for leader, other in (pair.addresses, pair.addresses[::-1]):
            if await leading(leader) and await following(other, leader):
                return leader, other
        return None

    return await eventually(so, 20, what="one leads, one stands by")


async def epoch_of(address: str) -> int:
    return (await leads(address)).directive.epoch
