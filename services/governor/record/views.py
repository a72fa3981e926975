"""Records of the topic as Protobuf."""

from __future__ import annotations

from k2.governor.v1 import governor_pb2 as pb

from libs.degradation.level import Cause, Level
from libs.degradation.protocol import cause_to_pb, level_to_pb
from services.governor.record.records import Kind, Placed, RecordedGroup, RecordedProcess
from services.governor.showing import leader_to_pb, override_to_pb
from services.governor.views import timestamp

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
        rules=pb.Rules(
            lag_thresholds=record.lag_thresholds, memory_thresholds=record.memory_thresholds
        ),
        groups=[_group(group) for group in record.groups],
        processes=[_process(process) for process in record.processes],
    )


def _group(group: RecordedGroup) -> pb.GroupLag:
    return pb.GroupLag(
        consumer_group=group.group,
        lag=group.lag,
        known=group.known,
        level=level_to_pb(Level(group.level)),
        desired_replicas=group.desired_writers,
        partitions=[
            pb.PartitionLag(
                topic=partition.topic,
                partition=partition.partition,
                end_offset=partition.end_offset,
                decoded_offset=partition.decoded_offset,
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
