"""OpenTelemetry traces, where the standard OTEL_* variables ask for them; free where not.

Spans are made with `tracer(...)`: without a set-up they are the API's no-op.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry import trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_TIMEOUT_S = 3.0


def tracer(name: str) -> trace.Tracer:
    return trace.get_tracer(name)


def enabled() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


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
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = environ.get("OTEL_SERVICE_NAME", f"k2-{service}")
    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False
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
