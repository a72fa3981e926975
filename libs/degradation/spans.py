"""Spans of a directive: the governor's that orders it, and a child of each process that obeys."""

from __future__ import annotations

from opentelemetry import trace

from libs.degradation.messages import Directive
from libs.telemetry import tracing

_TRACER = tracing.tracer("k2.degradation")


def key_of(epoch: int, sequence: int) -> str:
    """Name a directive as the governor and every process know it."""
    return f"directive {epoch}.{sequence}"


class Obeying:
    """The span of the newest directive, from when it is heard until every part acts on it."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._newest = (0, 0)
        self._span: trace.Span | None = None

    def heard(self, directive: Directive) -> None:
        this = (directive.epoch, directive.sequence)
        if this == self._newest or not tracing.enabled():
            return
        self.done()
        self._newest = this
        self._span = _TRACER.start_span(
            "obey directive",
            context=tracing.child_of(key_of(*this)),
            attributes={
                "k2.process": self._process,
                "k2.epoch": directive.epoch,
                "k2.sequence": directive.sequence,
                "k2.lag_level": directive.lag_level.name,
                "k2.memory_level": directive.memory_level.name,
            },
        )

    def done(self) -> None:
        if self._span is not None:
            self._span.end()
            self._span = None
