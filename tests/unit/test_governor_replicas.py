"""How many writers are asked for: by what comes, what one can do, and what waits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from services.governor.deciding.replicas import Scale, ScaleRules, Work, scaled
from services.governor.observing.flow import Flow, Moment

RULES = ScaleRules(drain_s=100, utilisation=0.8, up_after_s=15, down_after_s=300)
PARTITIONS = 16


def flow(produced: float, decoded: float, seconds: int = 10) -> Flow:
    """These rates, a reading a second."""
    moments = (
        Moment(float(s), round(produced * s), round((produced - decoded) * s))
        for s in range(seconds + 1)
    )
    return Flow(tuple(moments))


KEEPS_UP = Work(flow(9_000, 9_000), 0, 1, PARTITIONS, behind=False, shedding=False)
# One writer does 10,000 a second, 25,000 come.
BEHIND = Work(flow(25_000, 10_000), 100_000, 1, PARTITIONS, behind=True, shedding=False)


@dataclass
class World:
    """One group over time, a reading a second."""

    scale: Scale = field(default_factory=Scale)
    now_s: float = 0.0

    def after(self, work: Work, seconds: int = 1) -> int:
        for _ in range(seconds):
            self.now_s += 1
            self.scale = scaled(self.scale, work, RULES, self.now_s)
        return self.scale.desired


def test_number_is_what_comes_and_the_draining_by_what_one_can_do() -> None:
    """(25,000 + 100,000 / 100 s) / (0.8 * 10,000) is 3.25: four."""
    world = World()
    assert world.after(BEHIND, 30) == 4
    assert world.scale.capacity_per_s == 10_000
    assert "25,000 records/s come, 100,000 wait" in world.scale.because


def test_more_are_asked_for_only_after_a_while() -> None:
    """A new writer moves partitions, and a short burst is over before it has begun."""
    world = World()
    assert world.after(KEEPS_UP, 5) == 1
    assert world.after(BEHIND, 15) == 1
    assert world.after(BEHIND, 1) == 4


def test_burst_that_ends_asks_for_nobody() -> None:
    """Its time begins anew with the next one."""
    world = World()
    for _ in range(10):
        assert world.after(BEHIND, 10) == 1
        assert world.after(replace(KEEPS_UP, flow=flow(5_000, 5_000)), 5) == 1


def test_fewer_are_asked_for_after_a_long_while_and_no_fewer_than_were_wanted_in_it() -> None:
    """One busy minute of the five counts."""
    world = World(Scale(desired=6, capacity_per_s=10_000, measured=True, known=True))
    little = replace(KEEPS_UP, flow=flow(7_000, 7_000), writers=6)
    more = replace(KEEPS_UP, flow=flow(20_000, 20_000), writers=6)
    assert world.after(little, 200) == 6
    assert world.after(more, 50) == 6
    assert world.after(little, 60) == 3
    assert world.after(little, 301) == 1


def test_writers_that_keep_up_are_enough_whatever_comes() -> None:
    """What they can do is not known while they are never behind; it is at least what they do."""
    world = World()
    for thousands in range(1, 400):
        rate = thousands * 1_000.0
        assert world.after(replace(KEEPS_UP, flow=flow(rate, rate)), 2) == 1
    assert world.scale.capacity_per_s == 399_000


def test_no_more_than_partitions() -> None:
    """There is no use for a writer without one, and the number says so."""
    world = World()
    flood = replace(BEHIND, flow=flow(10_000_000, 10_000), pressing=50_000_000)
    assert world.after(flood, 30) == PARTITIONS
    assert "there are 16 partitions" in world.scale.because


def test_no_more_where_more_would_not_help() -> None:
    """And the number says why; fewer it may become."""
    world = World(Scale(desired=2, capacity_per_s=10_000, measured=True, known=True))
    assert world.after(replace(BEHIND, hindered="the sink is down"), 60) == 2
    assert world.scale.because.endswith("but the sink is down")
    assert world.after(replace(KEEPS_UP, hindered="the sink is down"), 400) == 2
    little = replace(KEEPS_UP, flow=flow(10, 10), hindered="the sink is down")
    assert world.after(little, 302) == 1


def test_what_is_shed_is_not_what_a_writer_can_do() -> None:
    """Passing by is quicker than decoding."""
    world = World()
    world.after(BEHIND, 1)
    world.after(replace(BEHIND, flow=flow(25_000, 90_000), shedding=True), 60)
    assert world.scale.capacity_per_s == 10_000


def test_number_starts_from_the_writers_there_are() -> None:
    """A governor that has just started sends nobody away."""
    world = World()
    assert world.after(replace(KEEPS_UP, flow=Flow(), writers=0), 9) == 1
    assert not world.scale.known
    assert world.after(replace(KEEPS_UP, flow=Flow(), writers=3), 1) == 3
    assert world.scale.known


def test_what_unknown_writers_decode_is_not_what_the_known_ones_can() -> None:
    """After a new governor's start they attach one after the other."""
    world = World()
    strangers = tuple(replace(one, whole=False) for one in BEHIND.flow.moments)
    assert world.after(replace(BEHIND, flow=Flow(strangers)), 60) == 1
    assert world.scale.capacity_per_s is None


def test_slower_writers_are_measured_anew() -> None:
    """What one could do once is no promise."""
    world = World(Scale(desired=1, capacity_per_s=50_000, measured=True, known=True))
    world.after(BEHIND, 1)
    assert world.scale.capacity_per_s == 10_000


def test_writer_that_decodes_nothing_says_nothing_of_what_it_can() -> None:
    """It is dead or waits; dividing by it would ask for the world."""
    world = World(Scale(desired=1, capacity_per_s=10_000, measured=True, known=True))
    world.after(replace(BEHIND, flow=flow(25_000, 0)), 60)
    assert (world.scale.capacity_per_s, world.scale.desired) == (10_000, 4)
