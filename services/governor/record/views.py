"""Records of the topic as Protobuf."""

from __future__ import annotations

from k2.governor.v1 import governor_pb2 as pb

from libs.degradation.level import Cause, Level
from libs.degradation.protocol import cause_to_pb, duration_to_pb, level_to_pb
from libs.rpc.times import timestamp
from services.governor.record.records import Kind, Placed, Record, RecordedGroup, RecordedProcess
from services.governor.showing import leader_to_pb, override_to_pb

KINDS: dict[Kind, pb.RecordKind.ValueType] = {
    "claim": pb.RECORD_KIND_CLAIM,
    "directive": pb.RECORD_KIND_DIRECTIVE,
    "sample": pb.RECORD_KIND_SAMPLE,
    "override": pb.RECORD_KIND_OVERRIDE,
    "resignation": pb.RECORD_KIND_RESIGNATION,
}
BY_NUMBER = {number: kind for kind, number in KINDS.items()}
KNOWN_CAUSES = frozenset(map(str, Cause))


def record_to_pb(placed: Placed) -> pb.Record:
    record = placed.record
    shown = pb.Record(
        kind=KINDS[record.kind],
        time=timestamp(placed.time_us),
        offset=placed.offset,
        leader=leader_to_pb(placed.leader),
        sequence=record.sequence,
        override=override_to_pb(record.override) if record.override else None,
    )
    if record.kind in ("directive", "sample"):
        shown.MergeFrom(_snapshot(placed))
    return shown


def _snapshot(placed: Placed) -> pb.Record:
    record = placed.record
    return pb.Record(
        level=level_to_pb(record.level),
        lag_level=level_to_pb(Level(record.lag_level)),
        memory_level=level_to_pb(Level(record.memory_level)),
        causes=[cause_to_pb(Cause(name)) for name in record.causes if name in KNOWN_CAUSES],
        writers=record.writers,
        policy=record.policy,
        explanation=record.explanation,
        level_since=timestamp(record.level_since_us),
        rules=_rules(record),
        groups=[_group(group) for group in record.groups],
        processes=[_process(process) for process in record.processes],
    )


def _rules(record: Record) -> pb.Rules:
    rules = pb.Rules(
        lag_thresholds=record.lag_thresholds, memory_thresholds=record.memory_thresholds
    )
    if (damping := record.damping) is not None:
        rules.cooldown.CopyFrom(duration_to_pb(damping.cooldown_s))
        rules.recovery_share = damping.recovery_share
        rules.reversals_to_double = damping.reversals_to_double
        rules.reversal_window.CopyFrom(duration_to_pb(damping.reversal_window_s))
        rules.most_cooldown_factor = damping.most_cooldown_factor
        rules.lag_samples_up = damping.lag_samples_up
        rules.sink_down_failures = damping.sink_down_failures
    return rules


def _group(group: RecordedGroup) -> pb.GroupLag:
    return pb.GroupLag(
        consumer_group=group.group,
        lag=group.lag,
        known=group.known,
        level=level_to_pb(Level(group.level)),
        held_lag=sum(max(0, p.end_offset - p.decoded_offset) for p in group.partitions if p.held),
        produced_per_s=group.produced_per_s or 0.0,
        decoded_per_s=group.decoded_per_s or 0.0,
        rated=group.produced_per_s is not None,
        capacity_per_s=group.capacity_per_s or 0.0,
        desired_replicas=group.desired_writers,
        desired_because=group.desired_because,
        behind=group.behind,
        hot_partitions=[pb.PartitionRef(topic=topic, partition=p) for topic, p in group.hot],
        sink_down=group.sink_down,
        reversals=len(group.reversals_ago_s),
        partitions=[
            pb.PartitionLag(
                topic=partition.topic,
                partition=partition.partition,
                end_offset=partition.end_offset,
                decoded_offset=partition.decoded_offset,
                held=partition.held,
            )
            for partition in group.partitions
        ],
    )


def _process(process: RecordedProcess) -> pb.ProcessSample:
    return pb.ProcessSample(
        process=process.process,
        service=process.service,
        memory_used_bytes=process.memory_used_bytes,
        memory_limit_bytes=process.memory_limit_bytes,
        memory_level=level_to_pb(Level(process.memory_level)),
        applied_level=level_to_pb(Level(process.applied_level)),
    )
