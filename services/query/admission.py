"""What the query service still answers at each level of its own memory.

    NORMAL, SOFT    everything
    GRACEFUL        what reads no more than the bound: the heaviest goes first
    AGGRESSIVE      of that, what is asked of one critical symbol, and an eighth of the bound
    CIRCUIT_BREAK   nothing but its status

Who follows already goes on: a follower costs little, and cutting it would lose its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from prometheus_client import Counter

from libs.degradation.level import Level
from libs.degradation.policy import Priority, PriorityPolicy
from libs.market.errors import ExhaustedError
from services.query.cost import Cost

MIB = 2**20
HEAVY_BYTES = 64 * MIB
CRITICAL_SHARE = 8
RETRY_AFTER_S = 5.0
REFUSED = Counter(
    "k2_query_refused_queries", "Queries refused for want of memory", ["level", "call"]
)


class ShortOfMemoryError(ExhaustedError):
    """The query service is short of memory, and this query is among those it puts off."""

    reason = "SHORT_OF_MEMORY"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants in: the call, and the one symbol it is about, if it is about one."""

    call: str
    symbol: str = ""
    exchange: str = ""


def nobody_critical(_exchange: str, _symbol: str) -> bool:
    return False


class Admission:
    """Lets queries in: by level and key before anything is read, then by what they would read."""

    def __init__(
        self,
        level: Callable[[], Level],
        *,
        is_critical: Callable[[str, str], bool] = nobody_critical,
        heavy_bytes: int = HEAVY_BYTES,
        retry_after_s: Callable[[], float] = lambda: RETRY_AFTER_S,
    ) -> None:
        self._level = level
        self._is_critical = is_critical
        self._heavy_bytes = heavy_bytes
        self._retry_after_s = retry_after_s

    def enter(self, asked: Asked) -> None:
        """Let a query in by its key.

        Raises:
            ShortOfMemoryError: at this level only critical symbols are served, or nothing.
        """
        level = self._level()
        if level >= Level.CIRCUIT_BREAK:
            raise self._refusal(level, asked, "nothing is answered now")
        if level >= Level.AGGRESSIVE and not self._is_critical(asked.exchange, asked.symbol):
            raise self._refusal(level, asked, "only critical symbols are answered now")

    def weigh(self, asked: Asked, cost: Callable[[], Cost]) -> None:
        """Let a query in by its cost, which is looked at only where it matters.

        Raises:
            ShortOfMemoryError: it would read more than this level allows.
        """
        level = self._level()
        if level < Level.GRACEFUL:
            return
        most_bytes = self._heavy_bytes // (CRITICAL_SHARE if level >= Level.AGGRESSIVE else 1)
        expected = cost()
        if expected.bytes > most_bytes:
            because = (
                f"this query would read about {expected}, and {most_bytes / MIB:g} MiB are the "
                "most now; ask for less"
            )
            raise self._refusal(level, asked, because, expected)

    def _refusal(
        self, level: Level, asked: Asked, because: str, expected: Cost | None = None
    ) -> ShortOfMemoryError:
        REFUSED.labels(level.name, asked.call).inc()
        estimate = (
            {}
            if expected is None
            else {"expected_rows": expected.rows, "expected_bytes": expected.bytes}
        )
        return ShortOfMemoryError(
            f"the query service is short of memory (level {level.name}): {because}",
            retry_after_s=self._retry_after_s(),
            level=level.name,
            **estimate,
        )


def critical_by(policy: PriorityPolicy, exchanges: Collection[str]) -> Callable[[str, str], bool]:
    """Say which symbols are critical; without an exchange, at any of those the tail reads."""

    def is_critical(exchange: str, symbol: str) -> bool:
        where = (exchange,) if exchange else exchanges
        return bool(symbol) and any(
            policy.priority_of(each, symbol) is Priority.CRITICAL for each in where
        )

    return is_critical
