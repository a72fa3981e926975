"""When a failed actor may run again, as plain state: no clock, no tasks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from libs.runtime.backoff import Backoff


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """At most `max_restarts` in any `within_s`; waits grow from `backoff_s` to `max_backoff_s`."""

    max_restarts: int = 5
    within_s: float = 60
    backoff_s: float = 0.1
    max_backoff_s: float = 5

    @property
    def backoff(self) -> Backoff:
        return Backoff(self.backoff_s, self.max_backoff_s)


class RestartHistory:
    """Restarts of the last `within_s`, of all the actors of a supervisor."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._times_s: deque[float] = deque()

    def allows(self, now_s: float) -> bool:
        """Count a restart now, or refuse it: false where it would be one too many."""
        while self._times_s and self._times_s[0] <= now_s - self._policy.within_s:
            self._times_s.popleft()
        if len(self._times_s) >= self._policy.max_restarts:
            return False
        self._times_s.append(now_s)
        return True
