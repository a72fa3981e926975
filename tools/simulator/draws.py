"""Random numbers that are the same on every machine: raw 64-bit draws and integer arithmetic.

numpy's own distributions may change between versions, and its exp and log differ in the last bit
between processors; a generator's raw output does neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

UNIT_BITS = 32
ONE = 1 << UNIT_BITS
_LARGEST_SPREAD = 1 << 31


class Draws:
    """A stream of uniform draws, named by what they are for.

    Streams of one seed that differ in name are independent, so that asking one for more changes
    nothing in the others.
    """

    def __init__(self, seed: int, name: str) -> None:
        entropy = [seed, *name.encode()]
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))

    def uniform(self, count: int) -> Int64s:
        """Return `count` integers in [0, 2**32)."""
        return (self._bits.random_raw(count) >> np.uint64(32)).astype(np.int64)

    def chance(self, count: int, probability: int | Int64s) -> Bools:
        """Return `count` booleans that are true with `probability` / 2**32."""
        return self.uniform(count) < probability


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution over integers, by its quantile function, linear between the points."""

    probabilities: Int64s
    values: Int64s

    @classmethod
    def of(cls, *points: tuple[float, int]) -> Quantiles:
        """Build from (probability, value) points, rising in both, from probability 0 to 1."""
        probabilities = np.array([round(p * ONE) for p, _ in points], dtype=np.int64)
        values = np.array([value for _, value in points], dtype=np.int64)
        if probabilities[0] != 0 or probabilities[-1] != ONE or np.any(np.diff(values) < 0):
            raise ValueError("quantiles must rise from probability 0 to 1")
        if np.any(np.diff(values) >= _LARGEST_SPREAD):
            raise ValueError("neighbouring values are too far apart for 64-bit arithmetic")
        return cls(probabilities, values)

    def at(self, uniform: Int64s) -> Int64s:
        """Return the values at uniform draws in [0, 2**32)."""
        upper = np.searchsorted(self.probabilities, uniform, side="right")
        low, high = self.probabilities[upper - 1], self.probabilities[upper]
        start = self.values[upper - 1]
        rise: Int64s = (self.values[upper] - start) * (uniform - low) // (high - low)
        return start + rise

    @property
    def mean(self) -> float:
        return int(self.at(np.arange(0, ONE, 1 << 12)).sum()) / (ONE >> 12)
