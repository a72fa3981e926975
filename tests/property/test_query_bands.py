"""Bands cover the times asked for, each instant once, from the end asked for."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from services.query.asked import EARLIEST_US, LATEST_US, Order, Times
from services.query.reading.plan import Bands


class Source(NamedTuple):
    rows: int
    time_min_us: int
    time_max_us: int


MOMENTS = st.integers(EARLIEST_US, LATEST_US - 1)
WIDE = st.sampled_from([-(2**63), 2**63 - 1])


@st.composite
def sources(draw: st.DrawFn) -> Source:
    low, high = sorted([draw(MOMENTS | WIDE), draw(MOMENTS | WIDE)])
    return Source(draw(st.integers(0, 10**7)), low, high)


@given(
    st.lists(sources(), max_size=6),
    st.tuples(MOMENTS, MOMENTS),
    st.sampled_from(Order),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=5),
)
def test_bands_cover_every_time_once_and_in_order(
    files: list[Source], ends: tuple[int, int], order: Order, wants: list[int]
) -> None:
    """Put end to end the bands are the times asked for, whatever the files' bounds are."""
    times = Times(min(ends), max(ends))
    bands = Bands(files, times, order)
    found = []
    for at in range(10_000):
        band = bands.next(wants[at % len(wants)] * 2 ** min(at, 40))
        if band is None:
            break
        found.append(band)
    edges = found if order is Order.OLDEST_FIRST else found[::-1]
    assert all(band.start_us < band.end_us for band in found)
    assert all(a.end_us == b.start_us for a, b in pairwise(edges))
    if times.start_us < times.end_us:
        assert (edges[0].start_us, edges[-1].end_us) == times
    else:
        assert not found
