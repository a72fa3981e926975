"""Spans of what makes rows visible: a traced burst read into the tail, a commit taken over."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import ConsumerRecord, TopicPartition
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pyiceberg.table.snapshots import Snapshot

from libs.lake.commits.seam import COMMIT_ID_KEY
from libs.telemetry import tracing

_TRACER = tracing.tracer("k2.query")
_PARENT = "traceparent"


def reading(records: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> list[trace.Span]:
    """Start a span for each burst that is traced; end them when its rows are in the tail."""
    if not tracing.enabled():
        return []
    return [_of(record) for found in records.values() for record in found if _traced(record)]


def _traced(record: ConsumerRecord) -> bool:
    """Say whether it is a burst's first; others who write to Kafka have headers of their own."""
    return any(name == _PARENT and value is not None for name, value in record.headers)


def _of(record: ConsumerRecord) -> trace.Span:
    named = [(name, value) for name, value in record.headers if value is not None]
    carrier = {name: value.decode(errors="replace") for name, value in named}
    return _TRACER.start_span(
        "tail read",
        context=TraceContextTextMapPropagator().extract(carrier),
        kind=trace.SpanKind.CONSUMER,
        attributes={
            "messaging.system": "kafka",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
        },
    )


def taken_over(snapshots: Iterable[Snapshot], began_ns: int) -> None:
    """Say in each commit's trace that queries see it from now on."""
    if not tracing.enabled():
        return
    for snapshot in snapshots:
        commit_id = snapshot.summary.get(COMMIT_ID_KEY) if snapshot.summary else None
        if commit_id:
            span = _TRACER.start_span(
                "snapshot taken over",
                context=tracing.child_of(commit_id),
                start_time=began_ns,
                attributes={"k2.snapshot_id": snapshot.snapshot_id},
            )
            span.end(time.time_ns())
