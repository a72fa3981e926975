"""When a session's messages are due, at a pace: no clock here, times are passed in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from libs.market.errors import InvalidError
from tools.simulator.draws import Int64s


@dataclass(slots=True)
class Timeline:
    """Ties session time to the clock; `pace` 1 is the original, infinity as fast as read."""

    pace: float = 1.0
    _session_ns: int = 0
    _clock_s: float = 0.0

    def anchor(self, session_ns: int, clock_s: float) -> None:
        """Say that this moment of the session is now: at its start and after each pause."""
        self._session_ns = session_ns
        self._clock_s = clock_s

    def due_until(self, received_ns: Int64s, clock_s: float) -> int:
        """Return how many messages of a chunk are due by now."""
        if math.isinf(self.pace):
            return len(received_ns)
        elapsed_ns = int((clock_s - self._clock_s) * self.pace * 1e9)
        return int(np.searchsorted(received_ns, self._session_ns + elapsed_ns, side="right"))

    def wait_s(self, received_ns: int, clock_s: float) -> float:
        """Return how long until a message is due."""
        due_s = self._clock_s + (received_ns - self._session_ns) / 1e9 / self.pace
        return max(0.0, due_s - clock_s)


def parse_pace(text: str) -> float:
    """Read a pace: a positive number, or `max`.

    Raises:
        InvalidError: it is neither.
    """
    try:
        pace = math.inf if text == "max" else float(text)
    except ValueError:
        pace = -1.0
    if not pace > 0:
        raise InvalidError(f"pace {text!r} is neither a positive number nor max", field="pace")
    return pace
