"""One group and the rules it goes by, from what the governor knows to the record and back. Pure."""

from __future__ import annotations

from libs.degradation.level import Level, Rules
from libs.degradation.machine import Ladder
from services.governor.deciding.causes import NONE
from services.governor.deciding.govern import Standing
from services.governor.deciding.replicas import Scale
from services.governor.observing.flow import Flow
from services.governor.observing.lag import GroupLag, PartitionLag
from services.governor.record.records import RecordedDamping, RecordedGroup, RecordedPartition


def recorded_group(standing: Standing, name: str, now_s: float) -> RecordedGroup:
    group, ladder = standing.groups.get(name, GroupLag(name)), standing.ladders[name]
    found, scale = standing.findings.get(name, NONE), standing.scales.get(name, Scale())
    rates = standing.flows.get(name, Flow()).rates
    return RecordedGroup(
        group=name,
        lag=group.lag,
        known=group.known,
        level=int(ladder.level),
        partitions=tuple(map(_partition, group.partitions)),
        desired_writers=scale.desired if scale.known else 0,
        desired_because=scale.because if scale.known else "",
        produced_per_s=rates.produced if rates else None,
        decoded_per_s=rates.decoded if rates else None,
        capacity_per_s=scale.capacity_per_s,
        behind=tuple(sorted(found.behind)),
        hot=tuple(sorted(found.hot)),
        sink_down=tuple(sorted(found.sink_down)),
        fell_ago_s=None if ladder.fell_at_s is None else now_s - ladder.fell_at_s,
        reversals_ago_s=tuple(now_s - time_s for time_s in ladder.reversals_s),
    )


def restored_ladder(group: RecordedGroup) -> Ladder:
    """Return the ladder, on a clock that is at 0 when it was recorded."""
    fell_at_s = None if group.fell_ago_s is None else -group.fell_ago_s
    reversals_s = tuple(-ago_s for ago_s in group.reversals_ago_s)
    return Ladder(Level(group.level), fell_at_s=fell_at_s, reversals_s=reversals_s)


def damping_of(rules: Rules) -> RecordedDamping:
    damping = rules.damping
    return RecordedDamping(
        rules.cooldown_s,
        damping.recovery_share,
        damping.reversals_to_double,
        damping.reversal_window_s,
        damping.most_cooldown_factor,
        rules.lag_samples_up,
        rules.sink_down_failures,
    )


def _partition(one: PartitionLag) -> RecordedPartition:
    return RecordedPartition(one.topic, one.partition, one.end_offset, one.decoded_offset, one.held)
