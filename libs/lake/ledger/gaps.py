"""Gaps in a series: ids missing between held ones, with the times they must lie between. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from libs.lake.ledger.coverage import Held, Ids, first_of, join, last_of
from libs.lake.ledger.ledger import Hole

EARLIEST_US = 0
LATEST_US = 253_402_300_800_000_000  # the year 10000
# Below so many a loop is faster than columns.
FEW_GAPS = 32

MOST_WITHOUT_GAPS = 2

Times = npt.NDArray[np.int64]
NO_TIMES: Times = np.zeros(0, np.int64)


class Gap(NamedTuple):
    """Ids first to last are not held; the trades around them are of these times, ends included."""

    first: int
    last: int
    after_us: int
    before_us: int
    # Why they are none of the venue's, where that was declared.
    hole: str | None = None

    def meets(self, start_us: int, end_us: int) -> bool:
        """Say whether a missing trade can be of a time in [start, end)."""
        return self.after_us < end_us and self.before_us >= start_us


@dataclass(frozen=True, slots=True)
class SeriesGaps:
    """What is held of a series and the gaps in it: computed once for a ledger, asked often."""

    held: Held
    holes: Sequence[Hole]
    gaps: tuple[Gap, ...]
    after_us: Times
    before_us: Times

    @classmethod
    def of(cls, held: Held, holes: Sequence[Hole] = ()) -> Self:
        if len(held) < MOST_WITHOUT_GAPS:
            return cls(held, holes, (), NO_TIMES, NO_TIMES)
        gaps = tuple(gaps_in(held, holes))
        after = np.array([gap.after_us for gap in gaps], np.int64)
        before = np.array([gap.before_us for gap in gaps], np.int64)
        return cls(held, holes, gaps, after, before)

    def meeting(self, start_us: int, end_us: int, upto: int | None = None) -> list[Gap]:
        """Return the gaps, or the first `upto` of them, that a time in [start, end) may fall in."""
        if len(self.gaps) < FEW_GAPS:
            return [gap for gap in self.gaps[:upto] if gap.meets(start_us, end_us)]
        hits = (self.after_us[:upto] < end_us) & (self.before_us[:upto] >= start_us)
        return [self.gaps[at] for at in np.flatnonzero(hits).tolist()]

    def with_more(self, more: Held, start_us: int, end_us: int) -> list[Gap]:
        """Return the gaps meeting these times that are left where `more` is held too.

        What lies below the ids of `more` is not computed anew.
        """
        if not more:
            return self.meeting(start_us, end_us)
        at = max(0, bisect_left(self.held, more[0].first - 1, key=last_of) - 1)
        rest = join(self.held[at:], more)
        upto = bisect_left(self.gaps, rest[0].first, key=gap_first)
        fresh = gaps_in(rest, self.holes)
        return [
            *self.meeting(start_us, end_us, upto),
            *(gap for gap in fresh if gap.meets(start_us, end_us)),
        ]


def gaps_in(held: Held, holes: Sequence[Hole]) -> Iterator[Gap]:
    """Yield the ids between those held, what was declared a hole of the venue as such."""
    for before, after in pairwise(held):
        gap = between(before, after)
        yield from split(gap, holes) if holes else (gap,)


def between(before: Ids, after: Ids) -> Gap:
    """Return the gap between two ranges. Where times do not follow the ids, it takes in both."""
    times = before.last_us, after.first_us
    return Gap(before.last + 1, after.first - 1, min(times), max(times))


def split(gap: Gap, holes: Sequence[Hole]) -> Iterator[Gap]:
    """Yield a gap cut along the holes of the venue, which are sorted by their first id."""
    at = gap.first
    for hole in holes:
        first, last = max(at, hole.first), min(gap.last, hole.last)
        if first > last:
            continue
        if at < first:
            yield gap._replace(first=at, last=first - 1)
        yield gap._replace(first=first, last=last, hole=hole.why)
        at = last + 1
    if at <= gap.last:
        yield gap._replace(first=at)


def beyond_ends(
    held: Held, holes: Sequence[Hole], first_id: int | None, last_id: int | None
) -> Iterator[Gap]:
    """Yield the ids asked for by number that lie before the first one held or past the last."""
    if not held:
        return
    low, high = held[0], held[-1]
    earliest = last_id if first_id is None else first_id
    latest = first_id if last_id is None else last_id
    if earliest is not None and earliest < low.first:
        yield from split(Gap(earliest, low.first - 1, EARLIEST_US, low.first_us), holes)
    if latest is not None and latest > high.last:
        yield from split(Gap(high.last + 1, latest, high.last_us, LATEST_US), holes)


def outside(more: Held, held: Held) -> Iterator[Ids]:
    """Yield the ids of `more` that are not among those held, with their range's times."""
    for ids in more:
        at = ids.first
        start = bisect_left(held, ids.first, key=last_of)
        for known in held[start : bisect_left(held, ids.last + 1, key=first_of)]:
            if at < known.first:
                yield ids._replace(first=at, last=known.first - 1)
            at = known.last + 1
        if at <= ids.last:
            yield ids._replace(first=at)


def gap_first(gap: Gap) -> int:
    return gap.first


NO_GAPS = SeriesGaps.of(())
