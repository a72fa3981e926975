"""How long to wait before another try: doubling, capped and jittered."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow from `first_s` to `most_s`."""

    first_s: float
    most_s: float

    def longest_s(self, failures: int) -> float:
        """Return the longest wait after so many failures in a row (1 is the first)."""
        return min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 32))

    def wait_s(self, failures: int) -> float:
        """Draw a wait between half of the longest and all of it, so that not all come at once."""
        return random.uniform(0.5, 1) * self.longest_s(failures)  # noqa: S311 (jitter)
