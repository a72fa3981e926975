"""Time that moves only when a test says so."""

from __future__ import annotations


class ManualClock:
    """A `Clock` of which both faces move together."""

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = now_us
        self._monotonic_us = 0

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._monotonic_us / 1_000_000

    def advance(self, seconds: float) -> None:
        elapsed_us = round(seconds * 1_000_000)
        self._now_us += elapsed_us
        self._monotonic_us += elapsed_us
