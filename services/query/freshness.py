"""How old rows are when a query first sees them: over the last minute, and over all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from prometheus_client import REGISTRY
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

WINDOW_S = 60
# Buckets grow by a tenth: a percentile is at most 5 % off, from 1 us to 3 hours.
GROWTH = 1.1
BUCKETS = 256
PAGE_BOUNDS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)


class FreshnessPage(Collector):
    """A histogram that takes a batch of ages at once: prometheus_client's takes one at a time."""

    def __init__(self) -> None:
        self._bounds_us = np.array(PAGE_BOUNDS_S) * 1e6
        self._counts = np.zeros(len(PAGE_BOUNDS_S) + 1, np.int64)
        self._sum_us = 0

    def saw(self, ages_us: npt.NDArray[np.int64]) -> None:
        at = np.searchsorted(self._bounds_us, ages_us)
        self._counts += np.bincount(at, minlength=len(self._counts))
        self._sum_us += int(ages_us.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        counts = np.cumsum(self._counts).tolist()
        bounds = [*(f"{bound_s:g}" for bound_s in PAGE_BOUNDS_S), "+Inf"]
        yield HistogramMetricFamily(
            "k2_query_freshness_seconds",
            "Age of a trade, from its receipt by the ingestor, when queries first see it",
            buckets=list(zip(bounds, counts, strict=True)),
            sum_value=self._sum_us / 1e6,
        )


PAGE = FreshnessPage()
REGISTRY.register(PAGE)


class Freshness:
    """Counts ages by size and second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, npt.NDArray[np.int64]]] = deque()

    def saw(self, ages_us: npt.NDArray[np.int64], now_s: float) -> None:
        PAGE.saw(ages_us)
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
