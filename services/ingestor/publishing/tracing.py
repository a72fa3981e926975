"""The span of a burst, and its name on the burst's first record, for whoever reads that."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.telemetry import tracing
from services.ingestor.delivering.records import Records

_TRACER = tracing.tracer("k2.ingestor")


def publish_span(topic: str) -> AbstractContextManager[trace.Span]:
    attributes = {"messaging.system": "kafka", "messaging.destination.name": topic}
    return _TRACER.start_as_current_span(
        "publish", kind=trace.SpanKind.PRODUCER, attributes=attributes
    )


def traced(records: Records) -> Records:
    """Give the first record the span's traceparent."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    headers = [(name, text.encode()) for name, text in carrier.items()]
    # Lists, for aiokafka takes nothing else.
    return replace(records, headers=[headers, *([] for _ in range(len(records) - 1))])
