"""OpenTelemetry traces, where the standard OTEL_* variables ask for them; free where not.

Spans are made with `tracer(...)`: without a set-up they are the API's no-op. What two processes
know by the same id (a commit, a directive) has one trace in both, `started_for` here and
`child_of` there: its ids are a hash of that id, so nothing is sent along.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.util.types import Attributes

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_TIMEOUT_S = 3.0
# writer-2 is an instance of the service k2-writer.
NUMBER = re.compile(r"-\d+$")


def tracer(name: str) -> trace.Tracer:
    return trace.get_tracer(name)


def enabled() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def started_for(
    key: str, tracer: trace.Tracer, name: str, attributes: Attributes = None
) -> trace.Span:
    """Start the span that all of this key's trace hang on; whoever starts it must end it."""
    if not enabled():
        return trace.INVALID_SPAN
    from libs.telemetry.keyed_ids import forced

    with forced(_ids_of(key)):
        return tracer.start_span(name, context=Context(), attributes=attributes)


def child_of(key: str) -> Context:
    """Return the context in which a span becomes a child of the one `started_for` this key."""
    if not enabled():
        return Context()
    from libs.telemetry.keyed_ids import is_sampled

    trace_id, span_id = _ids_of(key)
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if is_sampled(trace_id) else 0)
    parent = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())


def _ids_of(key: str) -> tuple[int, int]:
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")


def exporter_name(environ: Mapping[str, str]) -> str:
    """Name the exporter the environment asks for: "otlp", "console" or "none"."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return "none"
    asked = environ.get("OTEL_TRACES_EXPORTER", "")
    if asked:
        return asked.lower()
    return "otlp" if any(environ.get(name) for name in ENDPOINT_VARIABLES) else "none"


def set_up(service: str, environ: Mapping[str, str]) -> TracerProvider | None:
    """Export spans as the environment says; None where it does not ask for any."""
    exporter = _exporter(exporter_name(environ))
    if exporter is None:
        return None
    from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from libs.telemetry.keyed_ids import KeyedIds

    kind = NUMBER.sub("", service)
    names = {
        SERVICE_NAME: environ.get("OTEL_SERVICE_NAME", f"k2-{kind}"),
        SERVICE_INSTANCE_ID: service,
    }
    provider = TracerProvider(
        resource=Resource.create(names),
        id_generator=KeyedIds(),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def shut_down(provider: TracerProvider | None) -> None:
    """Send what is buffered, for at most three seconds."""
    if provider is not None:
        # With the collector away, the exporter's own retries take longer than a stop may.
        last_flush = threading.Thread(target=provider.shutdown, daemon=True)
        last_flush.start()
        last_flush.join(FLUSH_TIMEOUT_S)


def _exporter(name: str) -> SpanExporter | None:
    if name == "otlp":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    return None
