"""How long a commit is tried again while others are faster or the catalog does not answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from libs.market.clock import Clock
from libs.market.errors import ConflictError, UnavailableError

R = TypeVar("R")

FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 1.0
# Files written longer ago may be taken for orphans: half the age that these must have.
LONGEST_ON_THE_WAY_S = 43_200.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one call goes on; a later call with the same commit-id is as good."""

    give_up_after_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def until_landed(self, attempt: Callable[[int], R], clock: Clock) -> R:
        """Try until there is an answer; `attempt` is told its number, from 1.

        Raises:
            UnavailableError, ConflictError: of the last attempt, when the time is over.
        """
        deadline_s = clock.monotonic_s() + self.give_up_after_s
        number = 1
        while True:
            try:
                return attempt(number)
            except (ConflictError, UnavailableError):
                wait_s = self._wait_s(number)
                if clock.monotonic_s() + wait_s > deadline_s:
                    raise
            self.sleep(wait_s)
            number += 1

    def _wait_s(self, attempt: int) -> float:
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * float(2 ** min(attempt, 10)))
        return longest_s * (0.5 + self.jitter() / 2)
