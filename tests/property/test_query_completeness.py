"""An answer is complete when, and only when, every offset below its bound is accounted for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.query.completeness.missing import from_offset, gaps, joined, missing

OFFSETS = st.integers(0, 40)
SPANS = st.lists(st.tuples(OFFSETS, OFFSETS), max_size=5)


def members(spans: object) -> set[int]:
    return {at for low, high in spans for at in range(low, high)}  # type: ignore[attr-defined]


@given(OFFSETS, OFFSETS, SPANS)
def test_missing_is_exactly_what_neither_iceberg_nor_the_tail_has(
    seam: int, high: int, spans: list[tuple[int, int]]
) -> None:
    """Each offset below the bound is below the seam, in the tail, or named as missing."""
    lacks = missing({"t": {0: seam}}, {"t": {0: high}}, {"t": {0: spans}})
    named = members((lack.start, lack.end) for lack in lacks)
    assert named == set(range(seam, high)) - members(spans)


@given(OFFSETS)
def test_a_partition_never_read_is_never_complete(high: int) -> None:
    """With no seam and nothing read, every offset is missing: complete is not a default."""
    lacks = missing({}, {"t": {3: high}}, {})
    assert members((lack.start, lack.end) for lack in lacks) == set(range(high))


@given(OFFSETS, OFFSETS, SPANS)
def test_gaps_are_in_order_and_not_empty(
    start: int, end: int, spans: list[tuple[int, int]]
) -> None:
    """Ranges come out sorted, disjoint and with something in them."""
    found = gaps((start, end), spans)
    assert all(low < high for low, high in found)
    assert found == list(joined(found))


@given(SPANS, OFFSETS)
def test_joined_spans_hold_the_same_offsets(spans: list[tuple[int, int]], offset: int) -> None:
    """Joining and cutting lose and invent nothing."""
    assert members(joined(spans)) == members(spans)
    assert members(from_offset(spans, offset)) == {at for at in members(spans) if at >= offset}
