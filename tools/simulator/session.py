"""A session: what an exchange sends, as lines of (receive time in Unix ns, raw combined message).

`generated` makes one from a seed, `recorded` reads one from files that `k2 record` wrote. Both are
read lazily, in bounded memory, and each reading gives the same lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tools.simulator.chunk import Chunk, Line, TimeUnit
from tools.simulator.generated import START_US, GeneratedSession, Plan
from tools.simulator.instruments import Instrument
from tools.simulator.recorded import RecordedSession


class Session(Protocol):
    """What the simulated exchange plays.

    `streams` are stream names (`btcusdt@trade`), `symbols` those in capitals; `time_unit` is that
    of the lines one gets by iterating.
    """

    time_unit: TimeUnit
    symbols: tuple[str, ...]
    streams: tuple[str, ...]
    instruments: tuple[Instrument, ...]

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last receive time there can be, in Unix nanoseconds."""
        ...

    def __iter__(self) -> Iterator[Line]: ...

    def chunks(self) -> Iterator[Chunk]:
        """Read the session from its start."""
        ...


def generated(
    seed: int = 1,
    *,
    symbols: int = 20,
    duration_s: float = 60.0,
    rate: float = 1_000.0,
    trades: int | None = None,
    book_ticker: bool = False,
    start_us: int = START_US,
    time_unit: TimeUnit = "ms",
) -> GeneratedSession:
    """Make a session from a seed; `rate` is in trades a second over all symbols, on average."""
    plan = Plan(seed, symbols, duration_s, rate, trades, book_ticker, start_us, time_unit)
    return GeneratedSession(plan)


def recorded(paths: Sequence[Path | str]) -> RecordedSession:
    """Read recordings, their lines merged by receive time.

    Raises:
        NotFoundError: a file is not there.
        CorruptError: a file holds no message.
    """
    return RecordedSession(tuple(Path(path) for path in paths))
