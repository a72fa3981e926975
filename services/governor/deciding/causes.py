"""What holds a group up besides too much work: it changes what helps against its lag. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.degradation.level import Cause, Level, Rules
from libs.degradation.machine import Policy, lag_policy
from libs.degradation.messages import Partition, Report
from services.governor.observing.fleet import Fleet, Member
from services.governor.observing.lag import GroupLag


@dataclass(frozen=True, slots=True)
class Findings:
    """What is found of one group.

    `sink_down` are the processes whose commits fail: shedding would not help them. `behind` are
    those whose own partitions have their part of a lag that is shed for, until the group sheds no
    more: no other writer's shedding helps, for it reads other partitions.
    """

    causes: tuple[Cause, ...] = ()
    hot: frozenset[Partition] = frozenset()
    sink_down: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()


NONE = Findings()


@dataclass(frozen=True, slots=True)
class Looking:
    """One group as it is now, and what was found of it before.

    `why` is what made its level rise, kept until it is NORMAL.
    """

    group: GroupLag
    level: Level
    fleet: Fleet
    rules: Rules
    hot_share: float
    before: Findings = field(default_factory=Findings)
    why: Cause | None = None


def find(looking: Looking) -> Findings:
    hot, members = _hot(looking), looking.fleet.of(looking.group.group)
    named = (m.report.process for m in failing(looking.fleet, looking.rules))
    sink_down = frozenset(name for name in named if name in members)
    up = looking.level > Level.NORMAL
    holds: Mapping[Cause | None, bool] = {
        Cause.SINK_DOWN: bool(sink_down),
        Cause.HOT_PARTITION: bool(hot),
        Cause.HELD: any(partition.held for partition in looking.group.partitions),
        looking.why: up,
    }
    causes = tuple(cause for cause, true in holds.items() if cause is not None and true)
    return Findings(causes, hot, sink_down, _behind(looking))


def failing(fleet: Fleet, rules: Rules) -> list[Member]:
    """Return the processes whose last commits all failed."""
    limit = rules.sink_down_failures
    return [m for m in fleet.members.values() if m.report.own.commit_failures >= limit]


def _hot(looking: Looking) -> frozenset[Partition]:
    """A partition turns hot at a share of the lag, and stays it down to half of that."""
    if looking.level is Level.NORMAL:
        return frozenset()
    share, before = looking.hot_share, looking.before.hot
    worst = looking.group.hot(share * looking.rules.damping.recovery_share)
    if worst is None or not (worst.place in before or looking.group.hot(share)):
        return frozenset()
    return frozenset((worst.place,))


def _behind(looking: Looking) -> frozenset[str]:
    """Who has its part of the lag, or already applies such a level; nobody below GRACEFUL.

    A process that names no partition cannot be judged, and counts.
    """
    if looking.level < Level.GRACEFUL:
        return frozenset()
    fleet = looking.fleet
    policy = lag_policy(looking.rules, writers=fleet.writers)
    lags = {one.place: one.lag for one in looking.group.partitions if not one.held}
    return looking.before.behind | {
        name
        for name, member in fleet.of(looking.group.group).items()
        if _counts(member.report, lags, policy)
    }


def _counts(report: Report, lags: Mapping[Partition, int], policy: Policy) -> bool:
    own = sum(lags.get(place, 0) for place in report.own.positions)
    demanded = policy.thresholds.demanded(own)
    return not report.own.positions or max(demanded, report.applied_lag_level) >= Level.GRACEFUL
