"""What is known of each feed: one symbol of one exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from services.ingestor.publishing.symbol_sequence import Gap

RATE_WINDOW_S = 10


class FeedState(StrEnum):
    CONNECTING = "CONNECTING"
    LIVE = "LIVE"
    RECONNECTING = "RECONNECTING"
    SILENT = "SILENT"
    STOPPED = "STOPPED"
    NOT_TAKING = "NOT_TAKING"


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed as it is now. Times are microseconds UTC, 0 for never.

    With each open gap stands what was found when it was asked for.
    """

    exchange: str
    symbol: str
    state: FeedState
    trades: int
    trades_per_second: float
    last_sequence: int
    received_us: int
    gaps: int
    missing_trades: int
    healed_trades: int
    venue_holes: int
    repeated_trades: int
    open_gaps: Sequence[tuple[Gap, str]]


class Rates:
    """Trades per second of each symbol, over the last ten whole seconds. Time is passed in."""

    def __init__(self, symbols: int) -> None:
        self._counts = np.zeros((RATE_WINDOW_S + 1, symbols), np.int64)
        self._seconds = np.full(RATE_WINDOW_S + 1, -1, np.int64)

    def add(self, codes: npt.NDArray[np.int32], now_s: float) -> None:
        slot = int(now_s) % len(self._seconds)
        if self._seconds[slot] != int(now_s):
            self._seconds[slot] = int(now_s)
            self._counts[slot] = 0
        self._counts[slot] += np.bincount(codes, minlength=self._counts.shape[1])

    def per_second(self, now_s: float) -> npt.NDArray[np.float64]:
        age = int(now_s) - self._seconds
        recent = (age >= 1) & (age <= RATE_WINDOW_S)
        totals: npt.NDArray[np.float64] = self._counts[recent].sum(axis=0) / RATE_WINDOW_S
        return totals


@dataclass(frozen=True, slots=True)
class WaitingView:
    """What waits for Kafka; `full_because` is empty while the spool takes more."""

    memory_records: int
    spooled_records: int
    spooled_bytes: int
    most_bytes: int
    full_because: str
    kafka_silent_s: float


@dataclass(frozen=True, slots=True)
class HealingView:
    """What is asked of REST; `waits_because` is empty while nothing is in its way."""

    enabled: bool
    requests: int = 0
    used_weight: int = 0
    most_weight: int = 0
    waits_because: str = ""


@dataclass(frozen=True, slots=True)
class IntakeView:
    """Whether new data is taken, and what was given up where it was not."""

    taking: bool
    stops: int
    discarded_messages: int
    memory_level: str


@dataclass(frozen=True, slots=True)
class Overview:
    """All feeds of this process."""

    feeds: Sequence[Feed]
    reconnects: int
    malformed_frames: int
    waiting: WaitingView
    healing: HealingView
    intake: IntakeView
