"""Why the level is what it is, in plain words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from libs.degradation import machine
from libs.degradation.level import Cause, Level
from libs.degradation.messages import Partition
from services.governor.deciding.causes import NONE, failing
from services.governor.deciding.govern import Orders, Standing
from services.governor.observing.fleet import Fleet, Member
from services.governor.observing.lag import GroupLag

WHY: Mapping[Cause | None, str] = {
    Cause.INGRESS_BURST: "It rose because more came than usual.",
    Cause.SLOW_WRITER: "It rose because the writers took less than usual.",
}


def explain(standing: Standing, fleet: Fleet, now_s: float) -> str:
    """Say in a few sentences what holds the level, what would change it, and what is not known."""
    if standing.orders is None:
        return _no_level(standing)
    return " ".join((*_level(standing, standing.orders, fleet, now_s), *_labels(standing, fleet)))


def _no_level(standing: Standing) -> str:
    hindered = "; ".join(sorted({group.why for group in standing.groups.values() if group.why}))
    because = f": {hindered}" if hindered else ""
    return f"No level yet: lag has not been read since this governor began to lead{because}."


def _level(standing: Standing, orders: Orders, fleet: Fleet, now_s: float) -> Iterator[str]:
    if orders.level is Level.NORMAL and not orders.override:
        yield f"NORMAL: {'; '.join(_at_rest(standing, fleet))}."
    if orders.memory_level > Level.NORMAL:
        yield _by_memory(orders, fleet, standing.rules.memory.trigger(orders.memory_level))
    if orders.override:
        yield _by_operator(standing, orders)
        return
    for name, level in orders.lag_levels.items():
        if level > Level.NORMAL:
            yield _by_lag(standing, standing.groups[name], level, now_s)


def _by_operator(standing: Standing, orders: Orders) -> str:
    own = max((ladder.level for ladder in standing.ladders.values()), default=Level.NORMAL)
    lag = "; ".join(_behind(group) for group in standing.groups.values())
    said = f"{orders.lag_level.name} because an operator set it: {orders.override}."
    return f"{said} By its lag it would be {own.name}: {lag}."


def _at_rest(standing: Standing, fleet: Fleet) -> Iterator[str]:
    for group in standing.groups.values():
        yield f"{_behind(group)} (SOFT from {standing.rules.lag.soft:,.0f})"
    if fleet.members:
        fullest = max(fleet.members.values(), key=_memory_share)
        soft = standing.rules.memory.soft
        yield f"the fullest process is {_fullness(fullest)} (SOFT from {soft:.0%})"


def _by_memory(orders: Orders, fleet: Fleet, trigger: float) -> str:
    """Name who is full, or was: also one that has just ended to begin anew."""
    level = orders.memory_level
    named = {
        name: fleet.members.get(name) for name, own in orders.memory_levels.items() if own is level
    }
    there = [one for one in named.values() if one and one.report.memory_level >= level]
    when = "" if any(_memory_share(one) >= trigger for one in there) else " before"
    guilty = ", ".join(_full(name, member, level) for name, member in named.items())
    return f"{level.name} because of memory{when}: {guilty} ({level.name} from {trigger:.0%})."


def _full(name: str, member: Member | None, level: Level) -> str:
    if member is None or member.report.memory_level < level:
        return f"{name} was full a moment ago"
    return _fullness(member)


def _by_lag(standing: Standing, group: GroupLag, level: Level, now_s: float) -> str:
    trigger = standing.rules.lag.trigger(level)
    when = "" if group.pressing >= trigger else " before"
    why = f"{level.name} because of lag{when}: {_behind(group)} ({level.name} from {trigger:,.0f})."
    return f"{why} {_way_down(standing, group, level, now_s)}"


def _way_down(standing: Standing, group: GroupLag, level: Level, now_s: float) -> str:
    ladder = standing.ladders[group.group]
    policy = machine.lag_policy(standing.rules)
    point = policy.recovery_point(level)
    falls_at_s = machine.falls_at_s(ladder, policy, now_s)
    if falls_at_s is None:
        rest_s = machine.cooldown_s(ladder, policy, now_s)
        return f"It falls to {level.below.name} after {rest_s:g} s below {point:,.0f}."
    return f"It falls to {level.below.name} in {max(0.0, falls_at_s - now_s):.0f} s."


def _labels(standing: Standing, fleet: Fleet) -> Iterator[str]:
    for group in standing.groups.values():
        yield from _of_group(standing, group)
    if standing.orders is not None and Cause.SINK_DOWN in standing.orders.causes:
        yield _sink_down(standing, fleet)


def _of_group(standing: Standing, group: GroupLag) -> Iterator[str]:
    if not group.known:
        because = f" ({group.why})" if group.why else ""
        yield f"The lag of {group.group} cannot be read now{because}: its level holds."
    if group.held_lag:
        held = ", ".join(str(p.partition) for p in group.partitions if p.held)
        text = f"{group.held_lag:,} more wait in held partitions ({held})"
        yield f"{text}, whose records cannot be read: no level helps them."
    found = standing.findings.get(group.group, NONE)
    for topic, partition in sorted(found.hot):
        share = _share(group, (topic, partition))
        yield f"Partition {partition} of {topic} has {share:.0%} of it: shedding helps there alone."
    if why := WHY.get(standing.why.get(group.group)):
        yield why
    scale = standing.scales.get(group.group)
    if scale is not None and standing.ladders[group.group].level > Level.NORMAL:
        yield f"{scale.desired} writers are wanted: {scale.because}."


def _share(group: GroupLag, place: Partition) -> float:
    lag = sum(partition.lag for partition in group.partitions if partition.place == place)
    return lag / group.pressing if group.pressing else 0.0


def _sink_down(standing: Standing, fleet: Fleet) -> str:
    last = (
        f"{member.report.process}'s last {member.report.own.commit_failures} commits failed"
        for member in failing(fleet, standing.rules)
    )
    return f"The sink is down, so shedding would not help: {', '.join(last)}."


def _behind(group: GroupLag) -> str:
    return f"{group.group} is {group.pressing:,} records behind"


def _fullness(member: Member) -> str:
    return f"{member.report.process} at {_memory_share(member):.0%} of its memory"


def _memory_share(member: Member) -> float:
    return member.report.memory_used_bytes / member.report.memory_limit_bytes
