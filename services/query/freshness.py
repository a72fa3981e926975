"""How old rows are when a query first sees them: percentiles over the last minute."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

WINDOW_S = 60
# Buckets grow by a tenth: a percentile is at most 5 % off, from 1 us to 3 hours.
GROWTH = 1.1
BUCKETS = 256


class Freshness:
    """Counts ages by size and second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, npt.NDArray[np.int64]]] = deque()

    def saw(self, ages_us: npt.NDArray[np.int64], now_s: float) -> None:
        counts = np.bincount(bucket_of(ages_us), minlength=BUCKETS)
        second = int(now_s)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + counts)
        else:
            self._seconds.append((second, counts))
        self._forget(now_s)

    def percentile_us(self, share: float, now_s: float) -> int:
        """Return the age that this share of the rows was not older than; 0 where there are none."""
        self._forget(now_s)
        counts = sum((counts for _, counts in self._seconds), np.zeros(BUCKETS, np.int64))
        total = counts.sum()
        if not total:
            return 0
        bucket = int(np.searchsorted(np.cumsum(counts), share * total))
        return round(GROWTH ** (bucket - 0.5)) if bucket else 0

    def _forget(self, now_s: float) -> None:
        while self._seconds and self._seconds[0][0] < now_s - WINDOW_S:
            self._seconds.popleft()


def bucket_of(ages_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bucket 0 is no age at all (clocks differ); bucket n ends at GROWTH ** n."""
    logarithms = np.log(np.maximum(ages_us, 1)) / np.log(GROWTH)
    buckets: npt.NDArray[np.int64] = np.clip(np.ceil(logarithms), 0, BUCKETS - 1).astype(np.int64)
    return buckets
