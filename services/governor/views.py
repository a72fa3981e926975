"""The governor's state as Protobuf."""

from __future__ import annotations

from dataclasses import dataclass, replace

from google.protobuf.timestamp_pb2 import Timestamp
from k2.governor.v1 import governor_pb2 as pb

from libs.degradation import machine
from libs.degradation.level import Cause, Level
from libs.degradation.messages import Directive
from libs.degradation.protocol import directive_to_pb, duration_to_pb, level_to_pb, report_to_pb
from libs.rpc.times import timestamp
from services.governor.deciding.causes import NONE
from services.governor.deciding.explain import explain
from services.governor.deciding.govern import Standing
from services.governor.deciding.replicas import Scale
from services.governor.observing.fleet import Fleet, Member
from services.governor.observing.flow import Flow
from services.governor.observing.lag import GroupLag, PartitionLag


@dataclass(frozen=True, slots=True)
class Now:
    """One moment on both clocks."""

    monotonic_s: float
    unix_us: int

    def at(self, monotonic_s: float) -> Timestamp:
        return timestamp(self.unix_us + round((monotonic_s - self.monotonic_s) * 1_000_000))


def state(standing: Standing, fleet: Fleet, now: Now) -> pb.State:
    """Show everything. Before the first full sample no level is said, only why there is none."""
    return pb.State(
        directive=_overall(standing, fleet, now),
        level_since=timestamp(standing.level_since_us) if standing.orders else None,
        groups=[_group(standing, group, now) for group in standing.groups.values()],
        processes=[_process(member) for _, member in sorted(fleet.members.items())],
        cooldown=duration_to_pb(_cooldown_s(standing, now)),
        next_step_down=_next_step_down(standing, now),
    )


def _overall(standing: Standing, fleet: Fleet, now: Now) -> pb.Directive:
    because = explain(standing, fleet, now.monotonic_s)
    orders = standing.orders
    if orders is None:
        return pb.Directive(explanation=because)
    by_level = {Cause.LAG: orders.lag_level, Cause.MEMORY: orders.memory_level}
    causes = tuple(cause for cause, level in by_level.items() if level > Level.NORMAL)
    shown = Directive(
        epoch=orders.epoch,
        sequence=orders.sequence,
        ttl_s=standing.ttl_s,
        lag_level=orders.lag_level,
        memory_level=orders.memory_level,
        causes=causes + orders.causes,
        writers=orders.writers,
        rules=standing.rules,
    )
    return directive_to_pb(replace(shown, explanation=because))


def _group(standing: Standing, group: GroupLag, now: Now) -> pb.GroupLag:
    ladder, found = standing.ladders.get(group.group), standing.findings.get(group.group, NONE)
    policy = machine.lag_policy(standing.rules)
    rates = standing.flows.get(group.group, Flow()).rates
    scale = standing.scales.get(group.group, Scale())
    return pb.GroupLag(
        consumer_group=group.group,
        lag=group.lag,
        known=group.known,
        partitions=[_partition(partition) for partition in group.partitions],
        level=level_to_pb(ladder.level) if ladder else pb.LEVEL_UNSPECIFIED,
        held_lag=group.held_lag,
        produced_per_s=rates.produced if rates else 0.0,
        decoded_per_s=rates.decoded if rates else 0.0,
        capacity_per_s=scale.capacity_per_s or 0.0,
        desired_replicas=scale.desired if scale.known else 0,
        desired_because=scale.because,
        rated=rates is not None,
        behind=sorted(found.behind),
        hot_partitions=[pb.PartitionRef(topic=t, partition=p) for t, p in sorted(found.hot)],
        sink_down=sorted(found.sink_down),
        reversals=machine.reversals(ladder, policy, now.monotonic_s) if ladder else 0,
    )


def _partition(partition: PartitionLag) -> pb.PartitionLag:
    return pb.PartitionLag(
        topic=partition.topic,
        partition=partition.partition,
        end_offset=partition.end_offset,
        decoded_offset=partition.decoded_offset,
        held=partition.held,
    )


def _process(member: Member) -> pb.ProcessState:
    said = member.acknowledged
    return pb.ProcessState(
        report=report_to_pb(member.report),
        last_report_time=timestamp(member.reported_at_us),
        acknowledged_epoch=said.epoch if said else 0,
        acknowledged_sequence=said.sequence if said else 0,
        refused_because=said.refused_because if said else "",
        attached=member.attached,
    )


def _cooldown_s(standing: Standing, now: Now) -> float:
    policy = machine.lag_policy(standing.rules)
    rests = (machine.cooldown_s(lad, policy, now.monotonic_s) for lad in standing.ladders.values())
    return max(rests, default=standing.rules.cooldown_s)


def _next_step_down(standing: Standing, now: Now) -> Timestamp | None:
    policy = machine.lag_policy(standing.rules)
    shown = max(standing.ladders.values(), key=lambda ladder: ladder.level, default=None)
    falls_at_s = machine.falls_at_s(shown, policy, now.monotonic_s) if shown else None
    return None if falls_at_s is None else now.at(falls_at_s)
