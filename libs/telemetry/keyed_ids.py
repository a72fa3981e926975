"""Trace ids that are given, not drawn. Imported only where spans are exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision

_GIVEN: ContextVar[tuple[int, int] | None] = ContextVar("given trace and span id", default=None)


class KeyedIds(RandomIdGenerator):
    """Random, but for what is started within `forced`."""

    def generate_trace_id(self) -> int:
        given = _GIVEN.get()
        return super().generate_trace_id() if given is None else given[0]

    def generate_span_id(self) -> int:
        given = _GIVEN.get()
        return super().generate_span_id() if given is None else given[1]


@contextmanager
def forced(ids: tuple[int, int]) -> Iterator[None]:
    token = _GIVEN.set(ids)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def is_sampled(trace_id: int) -> bool:
    """Return what the sampler says of a trace that begins with this id, in every process."""
    sampler = cast("TracerProvider", trace.get_tracer_provider()).sampler
    decision = sampler.should_sample(Context(), trace_id, "").decision
    return decision is Decision.RECORD_AND_SAMPLE
