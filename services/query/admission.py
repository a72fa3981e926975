"""What the query service still answers at each level of its own memory."""

from __future__ import annotations

from enum import IntEnum

from libs.degradation.level import Level
from libs.market.errors import ExhaustedError

RETRY_AFTER_S = 5.0


class Weight(IntEnum):
    """How much of the table a query may touch."""

    POINT = 1
    RANGE = 2
    SCAN = 3


MOST_WEIGHT = {
    Level.GRACEFUL: Weight.RANGE,
    Level.AGGRESSIVE: Weight.POINT,
}


def admit(level: Level, weight: Weight) -> None:
    """Let a query in.

    Raises:
        ExhaustedError: at this level it is too heavy; at CIRCUIT_BREAK everything is.
    """
    if level >= Level.CIRCUIT_BREAK or weight > MOST_WEIGHT.get(level, Weight.SCAN):
        raise ExhaustedError(
            f"the query service is short of memory (level {level.name}) and refuses this query",
            retry_after_s=RETRY_AFTER_S,
            level=level.name,
        )
