"""When only a process started anew gives its memory back. Pure.

Memory that is short while something is buffered may be the buffers'. Short with nothing buffered,
and with what was free given back, it is the allocator's, and no waiting changes that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

# What was freed has come back by then, or will not.
SETTLING_S = 5.0
MOST_RESTARTS = 3
WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Sight:
    """One look. `starved`: memory demands that nothing is read, and is not on its way down.

    `drained`: nothing is fetched, buffered or on its way into the table.
    """

    starved: bool
    drained: bool


@dataclass(frozen=True, slots=True)
class Need:
    """Since when it is starved and drained, and from when a restart is due; not while it recovers.

    Once it is due it stays so until memory has recovered, whatever is read meanwhile. `given_up`:
    no restart was left, and none is asked for again before memory has recovered.
    """

    since_s: float | None = None
    due_at_s: float | None = None
    given_up: bool = False

    def after(self, sight: Sight, now_s: float, *, jitter_s: float) -> Need:
        """Take a look in; what falls due does so after the jitter."""
        if not sight.starved:
            return Need()
        if self.due_at_s is not None:
            return self
        if not sight.drained:
            return replace(self, since_s=None)
        since_s = now_s if self.since_s is None else self.since_s
        due_at_s = now_s + jitter_s if now_s - since_s >= SETTLING_S else None
        return Need(since_s, due_at_s)

    @property
    def settling(self) -> bool:
        """Say whether it is short with nothing buffered, and what is freed may still come back."""
        return self.since_s is not None and self.due_at_s is None

    @property
    def wanted(self) -> bool:
        """Say whether a restart is the only help."""
        return self.due_at_s is not None and not self.given_up

    def may_act(self, now_s: float, *, turn: bool | None) -> bool:
        """Say whether to restart now: at its turn, or after the jitter where nobody gives turns."""
        if self.due_at_s is None or not self.wanted:
            return False
        return now_s >= self.due_at_s if turn is None else turn


def restarts_left(past_us: Iterable[int], now_us: int) -> int:
    """Return how many restarts are left.

    One that lies in the future, after a small step of the clock, counts; one that lies far ahead
    would hold every restart back until the clock is there again.
    """
    recent = sum(abs(now_us - time_us) < WITHIN_S * 1e6 for time_us in past_us)
    return max(0, MOST_RESTARTS - recent)
