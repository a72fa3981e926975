"""What the governor decides from one sample: levels, and the directive of each process. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from libs.degradation import machine
from libs.degradation.level import Cause, Level, Rules
from libs.degradation.machine import Ladder, Reading
from libs.degradation.messages import Directive, Report
from services.governor.fleet import Fleet
from services.governor.lag import GroupLag
from services.governor.overrides import Override

# One failed commit is a conflict; as many in a row mean that the sink does not take files.
SINK_DOWN_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Orders:
    """What all processes are to do. Every change takes the next sequence."""

    epoch: int
    sequence: int
    lag_levels: Mapping[str, Level]
    memory_levels: Mapping[str, Level]
    causes: tuple[Cause, ...]
    writers: int
    policy: str = ""
    override: str = ""

    @property
    def lag_level(self) -> Level:
        return max(self.lag_levels.values(), default=Level.NORMAL)

    @property
    def memory_level(self) -> Level:
        return max(self.memory_levels.values(), default=Level.NORMAL)

    @property
    def level(self) -> Level:
        """The level shown: the higher of the two dimensions."""
        return max(self.lag_level, self.memory_level)


@dataclass(frozen=True, slots=True)
class Standing:
    """All that the governor remembers. No orders: there was no full sample yet.

    `adopted` are the processes whose applied level was taken over from the governor before;
    `restored_level` is what that one had recorded. `policy` is the version that is demanded.
    """

    rules: Rules
    ttl_s: float
    epoch: int
    ladders: Mapping[str, Ladder] = field(default_factory=dict)
    groups: Mapping[str, GroupLag] = field(default_factory=dict)
    orders: Orders | None = None
    adopting_until_s: float = 0.0
    adopted: frozenset[str] = frozenset()
    level_since_us: int = 0
    restored_level: Level | None = None
    policy: str = ""
    override: Override | None = None
    override_until_s: float = 0.0

    def overriding(self, now_s: float) -> Override | None:
        """Return what an operator has set, while its time lasts."""
        return self.override if now_s < self.override_until_s else None


def govern(
    standing: Standing, sample: Mapping[str, GroupLag], fleet: Fleet, now_s: float, now_us: int
) -> Standing:
    """Take one sample in. Nothing is ordered before the first one in which every lag is known."""
    groups = {name: _read(standing.groups.get(name), group) for name, group in sample.items()}
    if standing.orders is None and not all(group.known for group in groups.values()):
        return replace(standing, groups=groups)
    until_s = standing.adopting_until_s if standing.orders else now_s + standing.ttl_s
    ladders = {name: _step(standing, name, group, now_s) for name, group in groups.items()}
    stepped = replace(standing, groups=groups, ladders=ladders, adopting_until_s=until_s)
    return _order(_adopt(stepped, fleet, now_s), fleet, now_s, now_us)


def directive(standing: Standing, orders: Orders, reported: Report) -> Directive | None:
    """What a process is told: its group's lag level, its own memory's; None before it counts."""
    if reported.process not in orders.memory_levels:
        return None
    lag_level = orders.lag_levels.get(reported.own.consumer_group, orders.lag_level)
    memory_level = orders.memory_levels[reported.process]
    return Directive(
        epoch=orders.epoch,
        sequence=orders.sequence,
        ttl_s=standing.ttl_s,
        lag_level=lag_level,
        memory_level=memory_level,
        causes=_causes_for(orders, lag_level, memory_level),
        writers=orders.writers,
        rules=standing.rules,
        policy=orders.policy,
        override=orders.override,
    )


def _read(before: GroupLag | None, now: GroupLag) -> GroupLag:
    if now.known or before is None:
        return now
    return replace(before, known=False)


def _step(standing: Standing, name: str, group: GroupLag, now_s: float) -> Ladder:
    reading = Reading(group.lag if group.known else None)
    ladder = standing.ladders.get(name, Ladder())
    return machine.step(ladder, reading, machine.lag_policy(standing.rules), now_s)


def _adopt(standing: Standing, fleet: Fleet, now_s: float) -> Standing:
    """Start from the highest level that anyone applies, save what an operator has set.

    For one TTL: whoever was directed by a governor before has come back by then, or goes its own
    way.
    """
    if now_s > standing.adopting_until_s:
        return standing
    new = [m.report for name, m in fleet.members.items() if name not in standing.adopted]
    override = standing.overriding(now_s)
    levels = {report.applied_lag_level for report in new} - {override.level if override else None}
    level = max(levels, default=Level.NORMAL)
    return replace(
        standing,
        ladders={name: machine.raised(ladder, level) for name, ladder in standing.ladders.items()},
        adopted=standing.adopted | {report.process for report in new},
    )


def _order(standing: Standing, fleet: Fleet, now_s: float, now_us: int) -> Standing:
    before, override = standing.orders, standing.overriding(now_s)
    after = Orders(
        epoch=standing.epoch,
        sequence=before.sequence if before else 1,
        lag_levels={
            name: Level(override.level) if override else ladder.level
            for name, ladder in standing.ladders.items()
        },
        memory_levels={name: m.report.memory_level for name, m in fleet.members.items()},
        causes=_causes(standing, fleet) + ((Cause.OVERRIDE,) if override else ()),
        writers=fleet.writers,
        policy=standing.policy,
        override=override.reason if override else "",
    )
    if after == before:
        return standing
    was = before.level if before else standing.restored_level
    since_us = standing.level_since_us if was is after.level else now_us
    sequence = before.sequence + 1 if before else 1
    return replace(standing, orders=replace(after, sequence=sequence), level_since_us=since_us)


def _causes(standing: Standing, fleet: Fleet) -> tuple[Cause, ...]:
    """Causes that are the same for every process; LAG and MEMORY go by its own levels."""
    failures = (m.report.own.commit_failures for m in fleet.members.values())
    hot = any(
        group.hot is not None and standing.ladders[name].level > Level.NORMAL
        for name, group in standing.groups.items()
    )
    holds = {
        Cause.SINK_DOWN: max(failures, default=0) >= SINK_DOWN_FAILURES,
        Cause.HOT_PARTITION: hot,
        Cause.MISSING_DATA: not all(group.known for group in standing.groups.values()),
    }
    return tuple(cause for cause, true in holds.items() if true)


def _causes_for(orders: Orders, lag_level: Level, memory_level: Level) -> tuple[Cause, ...]:
    by_level = {Cause.LAG: lag_level, Cause.MEMORY: memory_level}
    own = tuple(cause for cause, level in by_level.items() if level > Level.NORMAL)
    return own + orders.causes
