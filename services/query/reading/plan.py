"""Which files to read next: bands of time, from one end, each of about so many rows.

Files overlap in time in any way (a day's buckets, late rows, small commits), so a band is a stretch
of time and a file is read in each band it touches. Bands are disjoint and together cover the times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.query.asked import Order, Times


class Timed(Protocol):
    """A source of rows and its inclusive time bounds."""

    @property
    def rows(self) -> int: ...
    @property
    def time_min_us(self) -> int: ...
    @property
    def time_max_us(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Density:
    """Rows of sources, spread evenly over their times. Floats, for bounds can be very wide."""

    starts: npt.NDArray[np.float64]
    ends: npt.NDArray[np.float64]
    rows: npt.NDArray[np.float64]

    @classmethod
    def of(cls, sources: Sequence[Timed]) -> Density:
        starts = np.array([source.time_min_us for source in sources], np.float64)
        ends = np.array([source.time_max_us for source in sources], np.float64) + 1
        return cls(starts, ends, np.array([source.rows for source in sources], np.float64))

    def expected(self, times: Times) -> float:
        """Estimate the rows inside the times."""
        overlap = np.minimum(self.ends, times.end_us) - np.maximum(self.starts, times.start_us)
        share = np.clip(overlap, 0, None) / np.maximum(self.ends - self.starts, 1)
        return float((share * self.rows).sum())

    def clamped(self, time_us: int) -> int:
        """Return the nearest time between the first and the last row."""
        return int(min(max(time_us, self.starts.min()), self.ends.max()))


class Bands:
    """Hands out bands from the newest or the oldest end until the times are covered."""

    def __init__(self, sources: Sequence[Timed], times: Times, order: Order) -> None:
        self._density = Density.of(sources)
        self._left: Times | None = times if times.start_us < times.end_us else None
        self._newest = order is Order.NEWEST_FIRST

    def next(self, want_rows: int) -> Times | None:
        """Return the next band, of some `want_rows` rows or all that is left; None when covered."""
        if self._left is None:
            return None
        return self._take(cut(self._density, self._left, want_rows, newest=self._newest))

    def next_until(self, edge_us: int) -> Times | None:
        """Return the band up to an edge, None where the edge is not inside what is left."""
        if self._left is None or not self._left.start_us < edge_us < self._left.end_us:
            return None
        return self._take(edge_us)

    def _take(self, edge_us: int) -> Times:
        assert self._left is not None  # noqa: S101
        before, after = Times(self._left.start_us, edge_us), Times(edge_us, self._left.end_us)
        band, left = (after, before) if self._newest else (before, after)
        self._left = left if left.start_us < left.end_us else None
        return band


def cut(density: Density, times: Times, want_rows: int, *, newest: bool) -> int:
    """Return where to cut the times so that the band at the chosen end has the rows wanted."""
    far, near = (times.start_us, times.end_us) if newest else (times.end_us, times.start_us)
    if density.expected(times) <= want_rows:
        return far
    low, high = density.clamped(near), density.clamped(far)
    for _ in range(abs(high - low).bit_length()):
        middle = (low + high) // 2
        expected = density.expected(Times(middle, near) if newest else Times(near, middle))
        if expected < want_rows:
            low = middle
        else:
            high = middle
        if want_rows <= expected <= 2 * want_rows:
            break
    return high
