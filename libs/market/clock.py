"""Time, passed in: what decides never asks the operating system."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now_us(self) -> int:
        """Microseconds since 1970 UTC. May step."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some start. Never steps."""
        ...


class SystemClock:
    """The operating system's clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic_s(self) -> float:
        return time.monotonic()
