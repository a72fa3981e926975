"""A burst's trace goes on where its records are read, through a batch as aiokafka makes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from libs.kafka.send import fill
from services.ingestor.delivering.records import Records
from services.ingestor.publishing.tracing import traced
from services.query import tracing as of_query

TOPIC = "market.crypto.trades.binance"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.setattr(of_query, "_TRACER", provider.get_tracer("k2.query"))
    yield provider
    provider.shutdown()


def read_back(records: Records) -> dict[TopicPartition, list[ConsumerRecord]]:
    """Through Kafka's own bytes."""
    batch = BatchBuilder(10**6, 0)
    assert fill(batch, records.keys, records.values, records.headers) == len(records)
    found = MemoryRecords(bytes(batch._build())).next_batch()
    at = TopicPartition(records.topic, records.partition)
    return {
        at: [
            ConsumerRecord(*at, r.offset, 0, 0, r.key, r.value, None, 0, 0, tuple(r.headers))
            for r in found
        ]
    }


def test_the_tail_goes_on_in_the_trace_of_the_burst(provider: TracerProvider) -> None:
    """One span for a burst of three, a child of its own."""
    burst = Records(TOPIC, 3, [b"BTCUSDT"] * 3, [b"a", b"b", b"c"])
    with provider.get_tracer("k2.ingestor").start_as_current_span("publish") as publish:
        read = read_back(traced(burst))
    (span,) = of_query.reading(read)
    assert span.get_span_context().trace_id == publish.get_span_context().trace_id
    parent = getattr(span, "parent", None)
    assert parent is not None
    assert parent.span_id == publish.get_span_context().span_id


def test_records_of_no_trace_begin_none(provider: TracerProvider) -> None:
    """Nor does anything, where no spans are exported."""
    assert of_query.reading(read_back(Records(TOPIC, 3, [b"k"], [b"v"]))) == []


@pytest.mark.parametrize("value", [None, b"", b"\xff"])
@pytest.mark.parametrize("name", ["another", "traceparent"])
def test_headers_of_another_writer_hinder_no_reading(
    provider: TracerProvider, name: str, value: bytes | None
) -> None:
    """Kafka allows a header without a value; what names no trace is of none."""
    at = TopicPartition(TOPIC, 3)
    record = ConsumerRecord(*at, 0, 0, 0, b"k", b"v", None, 0, 0, ((name, value),))
    spans = of_query.reading({at: [record]})
    assert len(spans) == (name == "traceparent" and value is not None)
