"""The tail's bookkeeping: cutting, merging, spilling, and rows by symbol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.ledger.ledger import EMPTY_LEDGER
from services.query.asked import Selection, Times
from services.query.completeness.missing import missing
from services.query.tail.chunk import chunk_of
from services.query.tail.rows import rows_of
from services.query.tail.spill import spilled
from services.query.tail.tail import EMPTY_TAIL, appended, committed
from tests.support.query import FIRST_US, tail_of, trade_rows


def offsets(tail: object, wanted: Selection | None = None, **options: object) -> list[int]:
    batches = rows_of(tail, wanted or Selection(), ("timestamp", "kafka_offset"), **options)  # type: ignore[arg-type]
    return sorted(at for batch in batches for at in batch["kafka_offset"].to_pylist())


def test_rows_below_the_seam_are_dropped_whole() -> None:
    """Cutting leaves exactly the rows past the seam, and forgets chunks below it."""
    tail = tail_of(*(trade_rows("A", range(at, at + 10), partition=1) for at in (0, 10, 20)))
    kept = committed(tail, {TRADES_BINANCE: {1: 15}}, EMPTY_LEDGER)
    assert offsets(kept) == list(range(15, 30))
    assert len(kept.chunks) == 2
    assert kept.high == {TRADES_BINANCE: {1: 30}}
    assert offsets(tail) == list(range(30)), "a state in use keeps its rows"


def test_a_seam_past_the_tail_leaves_it_empty() -> None:
    """Where the table is ahead of the tail, nothing is left and nothing is missing."""
    read = tail_of(trade_rows("A", range(5), partition=1))
    tail = committed(read, {TRADES_BINANCE: {1: 50}}, EMPTY_LEDGER)
    assert (tail.rows, tail.high) == (0, {TRADES_BINANCE: {1: 50}})


def test_rows_read_late_are_not_taken_twice() -> None:
    """Rows below the seam that arrive after the commit are left to Iceberg."""
    seam = {TRADES_BINANCE: {1: 7}}
    chunk = chunk_of(TRADES_BINANCE, trade_rows("A", range(10), partition=1))
    assert offsets(appended(EMPTY_TAIL, TRADES_BINANCE, chunk, {1: (0, 10)}, seam)) == [7, 8, 9]


def test_rows_read_again_are_not_taken_twice() -> None:
    """A reader that started again gives rows that are here already."""
    tail = tail_of(*(trade_rows("A", range(*span), partition=1) for span in ((0, 8), (5, 12))))
    assert offsets(tail) == list(range(12))
    assert tail.covered == {TRADES_BINANCE: {1: ((0, 12),)}}


def test_what_was_skipped_is_missing_before_more_comes() -> None:
    """Where the log now begins past the tail's end, the hole shows at once."""
    tail = tail_of(trade_rows("A", range(8), partition=1))
    skipped = appended(tail, TRADES_BINANCE, None, {1: (20, 20)}, {})
    lacks = missing({}, skipped.high, skipped.covered)
    assert [(lack.start, lack.end) for lack in lacks] == [(8, 20)]
    assert skipped.high == {TRADES_BINANCE: {1: 20}}
    high = committed(skipped, {TRADES_BINANCE: {1: 20}}, EMPTY_LEDGER).high
    assert missing({}, high, skipped.covered) == lacks
    assert not missing({TRADES_BINANCE: {1: 20}}, skipped.high, skipped.covered)


def test_small_chunks_are_merged() -> None:
    """A thousand polls of a few rows become a few dozen chunks, no row lost."""
    tail = tail_of(*(trade_rows("AB"[at % 2], [at], partition=1) for at in range(1_000)))
    assert len(tail.chunks) < 32
    assert offsets(tail) == list(range(1_000))


def test_spilled_rows_are_read_like_others(tmp_path: Path) -> None:
    """Beyond its memory the tail goes to files that leave no trace in the folder."""
    tail = tail_of(trade_rows("A", range(5_000), partition=1))
    moved = spilled(tail, memory_bytes=1_000, folder=tmp_path)
    assert moved.bytes_in_memory == 0 < moved.bytes_on_disk
    assert offsets(moved) == list(range(5_000))
    assert list(tmp_path.iterdir()) == []
    assert spilled(tail, memory_bytes=2**30, folder=tmp_path) is tail


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.tuples(st.integers(0, 10), st.integers(0, 10)),
)
def test_selected_rows_are_those_that_match(
    times: list[int], floor: int, ceiling: int, bounds: tuple[int, int]
) -> None:
    """Symbol, times and offset bounds select what a plain filter does."""
    rows = trade_rows("A", range(len(times)), times_us=[FIRST_US + at for at in times], partition=1)
    others = trade_rows("B", range(100, 110), partition=1)
    low, high = min(bounds), max(bounds)
    wanted = Selection(
        symbol="A",
        times=Times(FIRST_US + low, FIRST_US + high),
        floor={TRADES_BINANCE: {1: floor}},
        ceiling={TRADES_BINANCE: {1: ceiling}},
    )
    expected = [at for at, time in enumerate(times) if low <= time < high and floor <= at < ceiling]
    assert offsets(tail_of(pa.concat_batches([rows, others])), wanted) == expected


def test_the_newest_rows_of_a_symbol_are_its_slices_end() -> None:
    """With a limit each chunk gives its newest rows by time, not by offset."""
    times = np.array([5, 1, 9, 3, 7]) + FIRST_US
    tail = tail_of(trade_rows("A", range(5), times_us=times, partition=1))
    assert offsets(tail, Selection(symbol="A"), most=2, newest=True) == [2, 4]
    assert offsets(tail, Selection(symbol="A"), most=2, newest=False) == [1, 3]
    assert offsets(tail, Selection(symbol="A"), most=0, newest=True) == []


@given(
    st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=8), min_size=1, max_size=6),
    st.integers(1, 12),
    st.booleans(),
)
def test_the_nearest_rows_are_among_those_found(
    parts: list[list[int]], most: int, newest: bool
) -> None:
    """Chunks left untouched hold none of the rows asked for, ties in time included."""
    times = [time for part in parts for time in part]
    batches, first = [], 0
    for part in parts:
        at = [FIRST_US + time for time in part]
        batches.append(trade_rows("A", range(first, first + len(part)), times_us=at, partition=1))
        first += len(part)
    found = offsets(tail_of(*batches), Selection(symbol="A"), most=most, newest=newest)
    ranked = sorted(range(len(times)), key=lambda at: (times[at], at), reverse=newest)
    assert set(ranked[:most]) <= set(found)
