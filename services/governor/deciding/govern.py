"""What the governor decides from one sample: levels, and the directive of each process. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from libs.degradation import machine
from libs.degradation.level import Cause, Level, Rules
from libs.degradation.machine import Ladder, Reading
from libs.degradation.messages import Directive, Report
from services.governor.deciding.background import Settings, everywhere, studied, told_to
from services.governor.deciding.causes import NONE, Findings
from services.governor.deciding.overrides import Override
from services.governor.deciding.replicas import Scale
from services.governor.deciding.turns import Turn, next_turn
from services.governor.observing.fleet import Fleet
from services.governor.observing.flow import Flow
from services.governor.observing.lag import GroupLag, Holds, with_holds


@dataclass(frozen=True, slots=True)
class Orders:
    """What all processes are to do. Every change takes the next sequence."""

    epoch: int
    sequence: int
    lag_levels: Mapping[str, Level]
    memory_levels: Mapping[str, Level]
    causes: tuple[Cause, ...]
    writers: int
    findings: Mapping[str, Findings] = field(default_factory=dict)
    policy: str = ""
    override: str = ""
    restarting: str = ""

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
    `restored_level` is what that one had recorded. `why` is what made a
    group's level rise, until it is NORMAL again. `policy` is the version that is demanded.
    """

    rules: Rules
    ttl_s: float
    epoch: int
    ladders: Mapping[str, Ladder] = field(default_factory=dict)
    groups: Mapping[str, GroupLag] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    holds: Mapping[str, Holds] = field(default_factory=dict)
    flows: Mapping[str, Flow] = field(default_factory=dict)
    why: Mapping[str, Cause | None] = field(default_factory=dict)
    findings: Mapping[str, Findings] = field(default_factory=dict)
    scales: Mapping[str, Scale] = field(default_factory=dict)
    orders: Orders | None = None
    adopting_until_s: float = 0.0
    adopted: frozenset[str] = frozenset()
    level_since_us: int = 0
    restored_level: Level | None = None
    policy: str = ""
    override: Override | None = None
    override_until_s: float = 0.0
    turn: Turn | None = None

    def overriding(self, now_s: float) -> Override | None:
        """Return what an operator has set, while its time lasts."""
        return self.override if now_s < self.override_until_s else None


def govern(
    standing: Standing, sample: Mapping[str, GroupLag], fleet: Fleet, now_s: float, now_us: int
) -> Standing:
    """Take one sample in. Nothing is ordered before the first one in which every lag is known."""
    read = _read_all(standing, sample, now_s)
    groups = read.groups
    if standing.orders is None and not all(group.known for group in groups.values()):
        return read
    until_s = standing.adopting_until_s if standing.orders else now_s + standing.ttl_s
    ladders = {name: _step(standing, name, group, now_s) for name, group in groups.items()}
    stepped = replace(read, ladders=ladders, adopting_until_s=until_s)
    adopted = _give_turn(_adopt(stepped, fleet, now_s), fleet, now_s)
    return _order(studied(adopted, standing.ladders, fleet, now_s), fleet, now_s, now_us)


def directive(standing: Standing, orders: Orders, reported: Report) -> Directive | None:
    """What a process is told: its group's lag level, its own memory's; None before it counts."""
    if reported.process not in orders.memory_levels:
        return None
    process, group = reported.process, reported.own.consumer_group
    found = orders.findings.get(group, NONE)
    lag_level = _level_for(process, orders, group, found)
    memory_level = orders.memory_levels[process]
    return Directive(
        epoch=orders.epoch,
        sequence=orders.sequence,
        ttl_s=standing.ttl_s,
        lag_level=lag_level,
        memory_level=memory_level,
        causes=told_to(process, found, orders.causes, lag_level, memory_level),
        writers=orders.writers,
        rules=standing.rules,
        hot_partitions=found.hot,
        policy=orders.policy,
        override=orders.override,
        restart=process == orders.restarting,
    )


def _level_for(process: str, orders: Orders, group: str, found: Findings) -> Level:
    """The level of a process's group; what is shed, only where it is behind itself."""
    level = orders.lag_levels.get(group, orders.lag_level)
    judged = group in orders.findings and not orders.override
    return min(level, Level.SOFT) if judged and process not in found.behind else level


def _read_all(standing: Standing, sample: Mapping[str, GroupLag], now_s: float) -> Standing:
    groups, holds = dict[str, GroupLag](), dict[str, Holds]()
    for name, group in sample.items():
        held = standing.holds.get(name, {})
        if group.known:
            groups[name], holds[name] = with_holds(group, held, now_s)
        else:
            last = standing.groups.get(name, group)
            groups[name], holds[name] = replace(last, known=False, why=group.why), held
    return replace(standing, groups=groups, holds=holds)


def _step(standing: Standing, name: str, group: GroupLag, now_s: float) -> Ladder:
    reading = Reading(group.pressing if group.known else None)
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


def _give_turn(standing: Standing, fleet: Fleet, now_s: float) -> Standing:
    """Say who may restart; not while the governor before may have given a turn."""
    if now_s <= standing.adopting_until_s:
        return standing
    return replace(standing, turn=next_turn(standing.turn, fleet, now_s))


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
        causes=everywhere(standing) + ((Cause.OVERRIDE,) if override else ()),
        writers=fleet.writers,
        findings=standing.findings,
        policy=standing.policy,
        override=override.reason if override else "",
        restarting=standing.turn.process if standing.turn else "",
    )
    if after == before:
        return standing
    was = before.level if before else standing.restored_level
    since_us = standing.level_since_us if was is after.level else now_us
    sequence = before.sequence + 1 if before else 1
    return replace(standing, orders=replace(after, sequence=sequence), level_since_us=since_us)
