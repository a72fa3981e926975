"""The writer's buffer, and when it is flushed."""

from __future__ import annotations

import pyarrow as pa
import pytest

from libs.degradation.level import Level
from libs.wire.trades import Reason, Rejected
from services.writer.batching.buffer import Buffer, Chunk, Decision, FlushRule

P0, P1 = ("trades", 0), ("trades", 1)
RULE = FlushRule(after_bytes=100, after_s=10)


def chunk(
    start: int, following: int, *, partition: tuple[str, int] = P0, generation: int = 1
) -> Chunk:
    batch = pa.record_batch({"kafka_offset": list(range(start, following))})
    return Chunk(partition, generation, start, following, batch)


def test_chunks_of_a_partition_become_one_part() -> None:
    """In offset order, from the first start to the last end."""
    buffer = Buffer()
    buffer.add(chunk(5, 7), now_s=1)
    buffer.add(chunk(7, 9), now_s=2)
    buffer.add(chunk(0, 3, partition=P1), now_s=3)
    first, second = buffer.take()
    assert (first.partition, first.start, first.following, first.rows) == (P0, 5, 9, 4)
    assert (second.partition, second.start, second.following) == (P1, 0, 3)


def test_a_taken_buffer_is_empty() -> None:
    """Bytes, rows and age start over."""
    buffer = Buffer()
    buffer.add(chunk(0, 3), now_s=1)
    buffer.take()
    assert (bool(buffer), buffer.rows, buffer.size_bytes, buffer.age_s(99)) == (False, 0, 0, 0)


def test_age_counts_from_the_first_chunk() -> None:
    """What waits longest decides."""
    buffer = Buffer()
    buffer.add(chunk(0, 3), now_s=1)
    buffer.add(chunk(3, 4), now_s=5)
    assert buffer.age_s(11) == 10


@pytest.mark.parametrize("late", [chunk(5, 9, generation=2), chunk(8, 9)])
def test_a_partition_read_anew_drives_out_what_was_gathered(late: Chunk) -> None:
    """Of an earlier placing, or with a gap in between: it would be fenced."""
    buffer = Buffer()
    buffer.add(chunk(5, 7), now_s=1)
    assert buffer.add(late, now_s=2) == 2
    (part,) = buffer.take()
    assert (part.start, part.following, part.rows) == (late.start, 9, late.batch.num_rows)


def test_placings_are_not_joined_where_one_goes_on_after_the_other() -> None:
    """A fence is told by generation: of a joined part nobody would hear."""
    buffer = Buffer()
    buffer.add(chunk(5, 7), now_s=1)
    assert buffer.add(chunk(7, 9, generation=2), now_s=2) == 2
    (part,) = buffer.take()
    assert (part.generation, part.start, part.rows) == (2, 7, 2)


def test_rejected_records_count_and_stay_with_their_part() -> None:
    """A part of nothing but rejects still covers its range."""
    empty = pa.record_batch({"kafka_offset": pa.array([], pa.int64())})
    rejected = Rejected(5, Reason.EMPTY, "no bytes", b"xyz")
    buffer = Buffer()
    buffer.add(Chunk(P0, 1, 5, 6, empty, (rejected,)), now_s=1)
    assert buffer.size_bytes == 3
    (part,) = buffer.take()
    assert (part.rows, part.rejected, part.batches) == (0, (rejected,), [])


@pytest.mark.parametrize(
    ("size_bytes", "age_s", "committing", "decision"),
    [
        (99, 9.9, False, Decision.GATHER),
        (100, 0, False, Decision.FLUSH),
        (1, 10, False, Decision.FLUSH),
        (100, 0, True, Decision.HOLD),
        (99, 99, True, Decision.GATHER),
    ],
)
def test_a_buffer_is_flushed_when_full_or_old(
    size_bytes: int, age_s: float, committing: bool, decision: Decision
) -> None:
    """Full holds while the commit before is under way; old alone fills on."""
    assert RULE.decide(size_bytes=size_bytes, age_s=age_s, committing=committing) is decision


def test_an_empty_buffer_is_never_due() -> None:
    """Its age is 0."""
    buffer = Buffer()
    assert (
        RULE.decide(size_bytes=buffer.size_bytes, age_s=buffer.age_s(1e9), committing=False)
        is Decision.GATHER
    )


def test_lag_makes_batches_larger_and_memory_smaller() -> None:
    """Where both apply, memory wins."""
    assert RULE.under(lag=Level.SOFT, memory=Level.NORMAL).after_bytes > RULE.after_bytes
    assert RULE.under(lag=Level.SOFT, memory=Level.SOFT).after_bytes < RULE.after_bytes
    assert RULE.under(lag=Level.NORMAL, memory=Level.NORMAL) == RULE


def test_memory_that_stops_reading_lets_no_buffer_wait() -> None:
    """Also where commits are an hour apart: the pause is to end within a minute."""
    rare = FlushRule(RULE.after_bytes, 3_600)
    waits_s = [rare.under(lag=Level.CIRCUIT_BREAK, memory=level).after_s for level in Level]
    assert waits_s == [10_800, 1_800, 900, 1, 1]
