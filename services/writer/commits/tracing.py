"""Spans of a commit: one of it all, which queries that take it over add to, one of each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from opentelemetry import trace

from libs.lake.commits.committer import Fenced, Landed
from libs.telemetry import tracing
from services.writer.messages import Commit

_TRACER = tracing.tracer("k2.writer")


@contextmanager
def commit_span(message: Commit) -> Iterator[trace.Span]:
    span = tracing.started_for(
        message.commit_id,
        _TRACER,
        "commit",
        {
            "k2.commit_id": message.commit_id,
            "k2.kind": message.kind.value,
            "k2.positions": [
                f"{topic}-{partition}: {part.start} to {part.following}"
                for part in message.parts
                for topic, partition in [part.partition]
            ],
        },
    )
    with trace.use_span(span, end_on_exit=True):
        yield span


def attempt_span(step: str) -> AbstractContextManager[trace.Span]:
    return _TRACER.start_as_current_span(f"attempt to {step}")


def say_outcome(span: trace.Span, message: Commit, outcome: Landed | Fenced) -> None:
    span.set_attribute("k2.files", len(message.files))
    span.set_attribute("k2.fenced", isinstance(outcome, Fenced))
    if isinstance(outcome, Landed):
        span.set_attributes({"k2.snapshot_id": outcome.snapshot_id, "k2.rows": outcome.rows})
