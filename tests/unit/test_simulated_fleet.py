"""A fleet on a virtual clock, under the real control code, through what may befall it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.degradation.level import Cause, Damping, Level, Rules
from services.governor.deciding.govern import Standing, govern
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import GroupLag, PartitionLag
from tests.simulation.promises import Promises, recovers
from tests.simulation.weather import CALM_SHARE, Weather
from tests.simulation.world import Size, World
from tests.simulation.writer import GROUP, Gives, Obeys

SMALL = Size(writers=3, partitions=6, capacity_per_s=60_000, rules=Rules(cooldown_s=5.0))


def flooded(size: Size, seed: int = 1) -> Promises:
    """A world a minute into a flood of thrice its capacity, at CIRCUIT_BREAK."""
    world = World(size, seed)
    promises = Promises(world)
    world.ingress_per_s = world.capacity_per_s * CALM_SHARE
    promises.run(10)
    world.ingress_per_s = world.capacity_per_s * 3
    while world.level < Level.AGGRESSIVE:
        promises.step()
    world.log.produce(6_000_000)
    promises.run(5)
    world.ingress_per_s = world.capacity_per_s * CALM_SHARE
    return promises


def test_flood_is_left_behind_in_bounded_time() -> None:
    """Through every level up, and one by one down; nobody ever stops reading for lag."""
    promises = flooded(SMALL)
    assert recovers(promises)
    levels = [after for _, _, after in promises.world.seen.changes]
    assert Level.CIRCUIT_BREAK in levels
    falls = [(before, after) for _, before, after in promises.world.seen.changes if after < before]
    assert all(after is before.below for before, after in falls)
    assert promises.broken == []


def test_level_that_stops_consumption_never_ends() -> None:
    """The earlier system's deadlock: nobody reads, so lag never falls, so nobody reads.

    The same property that holds for ours fails for it, and says why.
    """
    promises = flooded(replace(SMALL, obeys=Obeys.STOPS))
    before = promises.world.log.lag
    assert not recovers(promises)
    assert promises.world.log.lag > before
    assert promises.world.level is Level.CIRCUIT_BREAK
    assert "reads nothing at" in promises.broken[0]


@pytest.mark.parametrize("gives", Gives)
def test_memory_that_is_short_stops_a_writer_for_a_minute_at_most(gives: Gives) -> None:
    """It pauses, is started anew in its turn, and where that is in vain reads on in small bits."""
    world = World(SMALL, 2)
    promises = Promises(world)
    world.ingress_per_s = world.capacity_per_s * CALM_SHARE
    promises.run(12)
    for writer in world.writers:
        writer.outside.gives, writer.outside.ballast = gives, 0.75
    promises.run(400)
    assert promises.broken == []
    assert recovers(promises)
    restarts = {writer.done.restarts for writer in world.writers}
    assert restarts == {{Gives.AT_ONCE: 0, Gives.RESTARTED: 1, Gives.NEVER: 3}[gives]}


def test_governor_cut_off_from_kafka_is_obeyed_for_a_ttl_at_most() -> None:
    """It still reaches every writer; its successor leads within ten seconds, at the same level."""
    promises = flooded(replace(SMALL, rules=Rules(cooldown_s=30.0)))
    world = promises.world
    first = world.leader
    assert first is not None
    first.reaches_kafka = False
    before_s, level = world.now_s, world.level
    while world.leader in (None, first) or world.level < level:
        promises.step()
        assert {world.lag_level(writer) for writer in world.writers} == {level}
    assert world.now_s - before_s <= 10
    first.reaches_kafka = True
    promises.run(30)
    assert world.leader is not first
    assert promises.broken == []


def test_governor_that_wakes_up_as_leader_is_obeyed_by_nobody() -> None:
    """Its first act is to push what it had in hand when it was stopped.

    Another leads within ten seconds meanwhile, as after a kill: nobody can tell the two apart.
    """
    promises = flooded(SMALL)
    world = promises.world
    first, stopped_at_s = world.leader, world.now_s
    assert first is not None
    first.paused_until_s = stopped_at_s + 25
    while world.leader is first:
        promises.step()
        assert world.now_s - stopped_at_s <= 10
    promises.run(60)
    assert world.leader is not first
    assert {writer.state.epoch for writer in world.writers} == {world.topic.owner}
    assert promises.broken == []
    assert recovers(promises)


def test_late_and_reordered_directives_lead_nobody_back() -> None:
    """They take up to eight seconds, and overtake each other, while the level goes up and down."""
    promises = flooded(SMALL)
    for link in promises.world.links.values():
        link.slow_s = 8.0
    promises.run(60)
    assert sum(writer.done.refusals for writer in promises.world.writers) > 0
    for link in promises.world.links.values():
        link.slow_s = 0.0
    assert recovers(promises)
    assert promises.broken == []


def changes(damping: Damping) -> int:
    """Of the level in half an hour, where lag swings across SOFT, slower than a cooldown."""
    state, before, count = Standing(Rules(damping=damping), 10.0, epoch=1), Level.NORMAL, 0
    for second in range(1_800):
        size = 110_000 if second % 45 < 5 else 20_000
        sample = {GROUP: GroupLag(GROUP, (PartitionLag("t", 0, size, 0),), known=True)}
        state = govern(state, sample, Fleet(), float(second), second * 1_000_000)
        assert state.orders is not None
        count += state.orders.level is not before
        before = state.orders.level
    return count


def test_level_does_not_flap_at_a_threshold() -> None:
    """Four reversals in ten minutes lengthen the cooldown, and the swing no longer fits into it."""
    assert changes(Damping(most_cooldown_factor=1)) == 2 * 1_800 // 45
    assert changes(Damping()) <= 3 * 2 * 5


def test_fleet_through_minutes_of_everything() -> None:
    """Forty writers, mishaps at random: all promises hold, and it comes back to NORMAL."""
    world = World(Size(writers=40, partitions=80, capacity_per_s=5_000, step_s=1.0), seed=1)
    promises, weather = Promises(world), Weather(world)
    weather.pass_time(300, promises)
    weather.calm()
    assert recovers(promises), (world.level, world.log.lag)
    assert promises.broken == []


def test_writers_whose_commits_fail_shed_nothing() -> None:
    """The sink is down: lag rises through the levels, and is shed for once it is back."""
    world = World(SMALL, 3)
    promises = Promises(world)
    world.ingress_per_s = world.capacity_per_s * 0.6
    promises.run(12)
    for writer in world.writers:
        writer.outside.sink_up = False
    promises.run(100)
    shed = sum(writer.done.shed for writer in world.writers)
    assert world.level >= Level.AGGRESSIVE
    assert all(Cause.SINK_DOWN in w.applied(world.now_s).causes for w in world.writers)
    assert shed == 0
    for writer in world.writers:
        writer.outside.sink_up = True
    assert recovers(promises)
    assert sum(writer.done.shed for writer in world.writers) > 0


def test_hot_partition_has_only_its_own_writer_shed() -> None:
    """The others read other partitions, and lose nothing for it."""
    world = World(SMALL, 4)
    promises = Promises(world)
    world.ingress_per_s = world.capacity_per_s * CALM_SHARE
    promises.run(12)
    hot = world.log.hot = world.log.partitions[0]
    world.ingress_per_s = world.capacity_per_s * 0.9
    while world.level < Level.GRACEFUL:
        promises.step()
    promises.run(30)
    owner = world.by_name[hot.owner or ""]
    now = owner.applied(world.now_s)
    assert Cause.HOT_PARTITION in now.causes
    assert set(now.hot_partitions) == {hot.place}
    assert [writer.name for writer in world.writers if writer.done.shed] == [owner.name]
    world.log.hot = None
    world.ingress_per_s = world.capacity_per_s * CALM_SHARE
    assert recovers(promises)
    assert promises.broken == []
