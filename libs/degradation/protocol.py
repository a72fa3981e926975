"""Control messages to Protobuf and back; nothing beyond this module and its users sees Protobuf."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from k2.governor.v1 import governor_pb2 as pb

from libs.degradation.level import Cause, Damping, Level, Rules, Thresholds
from libs.degradation.messages import (
    STEADY_S,
    Acknowledgement,
    Directive,
    OwnReport,
    Report,
)
from libs.market.errors import InvalidError

# A governor of an earlier version says less.
UNSAID = Rules()


def level_to_pb(level: Level) -> pb.Level.ValueType:
    # Protobuf's 0 is "not said", so each level is one more there.
    return pb.Level.ValueType(level + 1)


def level_from_pb(value: int, *, field: str) -> Level:
    """Read a level.

    Raises:
        InvalidError: none was said, or one this version does not know.
    """
    if not 1 <= value <= len(Level):
        raise InvalidError(f"{field} must be a level, not {value}", field=field)
    return Level(value - 1)


def cause_to_pb(cause: Cause) -> pb.Cause.ValueType:
    return pb.Cause.Value(f"CAUSE_{cause}")


def duration_to_pb(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1_000))
    return duration


def report_to_pb(report: Report) -> pb.Report:
    own = report.own
    return pb.Report(
        service=report.service,
        process=report.process,
        memory_used_bytes=report.memory_used_bytes,
        memory_limit_bytes=report.memory_limit_bytes,
        memory_baseline_bytes=report.memory_baseline_bytes,
        memory_level=level_to_pb(report.memory_level),
        applied_level=level_to_pb(report.applied_level),
        applied_lag_level=level_to_pb(report.applied_lag_level),
        epoch=report.epoch,
        consumer_group=own.consumer_group,
        positions=[
            pb.PartitionPosition(
                topic=topic,
                partition=partition,
                decoded_offset=offset,
                held=(topic, partition) in own.held,
            )
            for (topic, partition), offset in own.positions.items()
        ],
        lag=own.lag,
        commit_failures=own.commit_failures,
        said_at_ms=report.said_at_ms,
        restart_wanted=own.restart_wanted,
        every_ms=round(report.every_s * 1_000),
    )


def report_from_pb(message: pb.Report) -> Report:
    """Read a report.

    Raises:
        InvalidError: it does not name its process, has no memory limit, or an unknown level.
    """
    if not message.process:
        raise InvalidError("report.process must name the process", field="report.process")
    if message.memory_limit_bytes <= 0:
        field = "report.memory_limit_bytes"
        raise InvalidError(
            f"{field} must be positive, is {message.memory_limit_bytes}", field=field
        )
    return Report(
        service=message.service,
        process=message.process,
        memory_used_bytes=message.memory_used_bytes,
        memory_limit_bytes=message.memory_limit_bytes,
        memory_baseline_bytes=message.memory_baseline_bytes,
        memory_level=level_from_pb(message.memory_level, field="report.memory_level"),
        applied_level=level_from_pb(message.applied_level, field="report.applied_level"),
        applied_lag_level=level_from_pb(
            message.applied_lag_level, field="report.applied_lag_level"
        ),
        epoch=message.epoch,
        own=_own_from_pb(message),
        said_at_ms=message.said_at_ms,
        every_s=message.every_ms / 1_000 or STEADY_S,
    )


def _own_from_pb(message: pb.Report) -> OwnReport:
    return OwnReport(
        consumer_group=message.consumer_group,
        positions={(p.topic, p.partition): p.decoded_offset for p in message.positions},
        lag=message.lag if message.HasField("lag") else None,
        commit_failures=message.commit_failures,
        held=frozenset((p.topic, p.partition) for p in message.positions if p.held),
        restart_wanted=message.restart_wanted,
    )


def directive_to_pb(directive: Directive) -> pb.Directive:
    return pb.Directive(
        epoch=directive.epoch,
        sequence=directive.sequence,
        ttl=duration_to_pb(directive.ttl_s),
        level=level_to_pb(directive.level),
        lag_level=level_to_pb(directive.lag_level),
        memory_level=level_to_pb(directive.memory_level),
        causes=[cause_to_pb(cause) for cause in directive.causes],
        writers=directive.writers,
        explanation=directive.explanation,
        rules=_rules_to_pb(directive.rules),
        hot_partitions=[
            pb.PartitionRef(topic=topic, partition=partition)
            for topic, partition in sorted(directive.hot_partitions)
        ],
        policy=directive.policy,
        override=directive.override,
        answers_ms=directive.answers_ms,
        restart=directive.restart,
    )


def directive_from_pb(message: pb.Directive) -> Directive:
    """Read a directive; causes this version does not know are left out.

    Raises:
        InvalidError: an unknown level, or rules that make no sense.
    """
    return Directive(
        epoch=message.epoch,
        sequence=message.sequence,
        ttl_s=_seconds(message.ttl),
        lag_level=level_from_pb(message.lag_level, field="directive.lag_level"),
        memory_level=level_from_pb(message.memory_level, field="directive.memory_level"),
        causes=_causes_from_pb(message),
        writers=message.writers,
        explanation=message.explanation,
        rules=_rules_from_pb(message.rules),
        hot_partitions=frozenset((p.topic, p.partition) for p in message.hot_partitions),
        policy=message.policy,
        override=message.override,
        answers_ms=message.answers_ms,
        restart=message.restart,
    )


def _causes_from_pb(message: pb.Directive) -> tuple[Cause, ...]:
    known = {cause_to_pb(cause): cause for cause in Cause}
    return tuple(known[cause] for cause in message.causes if cause in known)


def _rules_to_pb(rules: Rules) -> pb.Rules:
    return pb.Rules(
        lag_thresholds=rules.lag.in_order,
        memory_thresholds=rules.memory.in_order,
        cooldown=duration_to_pb(rules.cooldown_s),
        recovery_share=rules.damping.recovery_share,
        lag_samples_up=rules.lag_samples_up,
        reversals_to_double=rules.damping.reversals_to_double,
        reversal_window=duration_to_pb(rules.damping.reversal_window_s),
        most_cooldown_factor=rules.damping.most_cooldown_factor,
        sink_down_failures=rules.sink_down_failures,
    )


def _rules_from_pb(message: pb.Rules) -> Rules:
    if len(message.lag_thresholds) != 4 or len(message.memory_thresholds) != 4:
        raise InvalidError("rules need four thresholds each", field="directive.rules")
    return Rules(
        Thresholds(*message.lag_thresholds),
        Thresholds(*message.memory_thresholds),
        _seconds(message.cooldown),
        _damping_from_pb(message),
        message.lag_samples_up or UNSAID.lag_samples_up,
        message.sink_down_failures or UNSAID.sink_down_failures,
    )


def _damping_from_pb(message: pb.Rules) -> Damping:
    unsaid = UNSAID.damping
    return Damping(
        message.recovery_share or unsaid.recovery_share,
        message.reversals_to_double or unsaid.reversals_to_double,
        _seconds(message.reversal_window) or unsaid.reversal_window_s,
        message.most_cooldown_factor or unsaid.most_cooldown_factor,
    )


def _seconds(duration: Duration) -> float:
    return duration.ToMilliseconds() / 1_000


def acknowledgement_to_pb(acknowledgement: Acknowledgement) -> pb.Acknowledgement:
    return pb.Acknowledgement(
        epoch=acknowledgement.epoch,
        sequence=acknowledgement.sequence,
        refused_because=acknowledgement.refused_because,
    )


def acknowledgement_from_pb(message: pb.Acknowledgement) -> Acknowledgement:
    return Acknowledgement(message.epoch, message.sequence, message.refused_because)
