"""Two processes that know a thing by the same id put it into the same trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from libs.telemetry import tracing
from libs.telemetry.keyed_ids import KeyedIds

KEYS = [f"commit-{number}" for number in range(200)]


class Exported:
    """A process's own provider, and what it has exported."""

    def __init__(self, ratio: float) -> None:
        self.spans = InMemorySpanExporter()
        self.provider = TracerProvider(
            id_generator=KeyedIds(), sampler=TraceIdRatioBased(ratio), shutdown_on_exit=False
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self.spans))

    def traces(self, name: str) -> set[int]:
        found = (span.context for span in self.spans.get_finished_spans() if span.name == name)
        return {context.trace_id for context in found if context is not None}


@pytest.fixture(params=[1.0, 0.5])
def exported(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exported]:
    exported = Exported(request.param)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", exported.provider)
    yield exported
    exported.provider.shutdown()


def test_a_child_hangs_on_the_span_of_its_key(exported: Exported) -> None:
    """Sampled or not as one: a trace is whole, or is not there."""
    tracer = exported.provider.get_tracer("k2.test")
    for key in KEYS:
        tracing.started_for(key, tracer, "commit", {"k2.commit_id": key}).end()
        tracer.start_span("taken over", context=tracing.child_of(key)).end()
    assert exported.traces("commit")
    assert exported.traces("commit") == exported.traces("taken over")
    finished = exported.spans.get_finished_spans()
    roots = {span.context.span_id for span in finished if span.name == "commit" and span.context}
    parents = {span.parent.span_id for span in finished if span.parent}
    assert roots == parents


def test_what_has_no_key_has_ids_of_its_own(exported: Exported) -> None:
    """Also right after a span with a key, in the same task."""
    tracer = exported.provider.get_tracer("k2.test")
    tracing.started_for("commit-1", tracer, "commit").end()
    contexts = [tracer.start_span("other").get_span_context() for _ in range(3)]
    assert len({context.trace_id for context in contexts}) == 3
    assert len({context.span_id for context in contexts}) == 3


def test_without_an_exporter_nothing_is_begun() -> None:
    """No span, and no parent for one."""
    tracer = tracing.tracer("k2.test")
    assert tracing.started_for("commit-1", tracer, "commit") is trace.INVALID_SPAN
    assert trace.get_current_span(tracing.child_of("commit-1")) is trace.INVALID_SPAN
