"""Which trades the table holds, by the exchange's own numbering. Pure, and columns throughout.

A series is one counter of an exchange; a coverage names the ids held of each. It grows with the
number of holes, not of trades.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Series(NamedTuple):
    """One counter: a trade's identity without its number."""

    exchange: str
    asset_class: str
    symbol: str
    epoch: int


class IdRange(NamedTuple):
    """Ids from first to last, both among them."""

    first: int
    last: int


class Ids(NamedTuple):
    """Ids from first to last, all held, and the times of the earliest and latest trade of them."""

    first: int
    last: int
    first_us: int
    last_us: int


# Sorted, disjoint, and maximal: ids that follow each other are one range.
Held = tuple[Ids, ...]
Coverage = Mapping[Series, Held]
IdRanges = Mapping[Series, tuple[IdRange, ...]]
Counts = Mapping[Series, int]

EMPTY_COVERAGE: Coverage = {}


def union(one: Coverage, other: Coverage) -> Coverage:
    """Return what either holds. Associative, commutative, idempotent."""
    merged = dict(one)
    for series, held in other.items():
        merged[series] = join(merged.get(series, ()), held)
    return merged


def join(one: Held, other: Held) -> Held:
    """Return the ids of both, as the fewest ranges; only what `other` touches is looked at."""
    if not one or not other:
        return one or other
    start = bisect_left(one, other[0].first - 1, key=last_of)
    stop = bisect_right(one, other[-1].last + 1, key=first_of)
    return (*one[:start], *merged(sorted((*one[start:stop], *other))), *one[stop:])


def merged(ordered: Sequence[Ids]) -> Iterator[Ids]:
    """Yield ranges sorted by their first id with those that touch made one."""
    current = ordered[0]
    for following in ordered[1:]:
        if following.first > current.last + 1:
            yield current
            current = following
        else:
            current = Ids(
                current.first,
                max(current.last, following.last),
                min(current.first_us, following.first_us),
                max(current.last_us, following.last_us),
            )
    yield current


def overlaps(one: Coverage, other: Coverage) -> IdRanges:
    """Return the ids that both hold; empty where there are none."""
    return {
        series: common
        for series in one.keys() & other.keys()
        if (common := tuple(common_ids(one[series], other[series])))
    }


def common_ids(one: Held, other: Held) -> Iterator[IdRange]:
    many, few = (one, other) if len(one) > len(other) else (other, one)
    for wanted in few:
        start = bisect_left(many, wanted.first, key=last_of)
        stop = bisect_right(many, wanted.last, key=first_of)
        for held in many[start:stop]:
            yield IdRange(max(held.first, wanted.first), min(held.last, wanted.last))


def common_span(held: Held, wanted: Held) -> tuple[int, int] | None:
    """Return the earliest and the latest time of the ranges near the wanted ids."""
    start = bisect_left(held, wanted[0].first, key=last_of)
    stop = bisect_right(held, wanted[-1].last, key=first_of)
    near = held[start:stop]
    if not near:
        return None
    return min(ids.first_us for ids in near), max(ids.last_us for ids in near)


def contains(coverage: Coverage, series: Series, ids: Ints) -> Mask:
    """Say of each id whether the coverage holds it."""
    held = coverage.get(series, ())
    if not held or not len(ids):
        return np.zeros(len(ids), dtype=np.bool_)
    start = bisect_left(held, int(ids.min()), key=last_of)
    stop = bisect_right(held, int(ids.max()), key=first_of)
    near = np.array([ids[:2] for ids in held[start:stop]], dtype=np.int64).reshape(-1, 2)
    if not len(near):
        return np.zeros(len(ids), dtype=np.bool_)
    at = np.searchsorted(near[:, 0], ids, side="right") - 1
    return np.asarray((at >= 0) & (ids <= near[np.maximum(at, 0), 1]))


def gaps(held: Held) -> tuple[IdRange, ...]:
    """Return the ids that are missing between those held."""
    return tuple(IdRange(before.last + 1, after.first - 1) for before, after in pairwise(held))


def held_ids(coverage: Coverage) -> int:
    """Count the ids held."""
    return sum(ids.last - ids.first + 1 for held in coverage.values() for ids in held)


def first_of(ids: Ids) -> int:
    return ids.first


def last_of(ids: Ids) -> int:
    return ids.last
