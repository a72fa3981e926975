"""What a query asks for, in the query's own words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from libs.wire.schema import TRADE_SCHEMA
from services.query.offsets import Offsets

EARLIEST_US = 0
LATEST_US = 253_402_300_800_000_000  # the year 10000, where SQL and Protobuf times end

MESSAGE_ID = "message_id"
ORDER_COLUMNS = ("timestamp", "kafka_topic", "kafka_partition", "kafka_offset")
ANSWER_COLUMNS = (*TRADE_SCHEMA.names, MESSAGE_ID)
_OWN = frozenset(ANSWER_COLUMNS)
_DERIVED_FROM = {
    MESSAGE_ID: ("exchange", "asset_class", "symbol", "sequence_epoch", "source_sequence"),
    "notional": ("notional", "price", "quantity"),
}


class Order(StrEnum):
    NEWEST_FIRST = "newest"
    OLDEST_FIRST = "oldest"


class Times(NamedTuple):
    """Exchange times from start up to, not including, end: microseconds UTC."""

    start_us: int = EARLIEST_US
    end_us: int = LATEST_US


class RowKey(NamedTuple):
    """A row's place in the total order of rows; offsets make it unique."""

    timestamp_us: int
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows: every condition holds. Empty text and None mean no condition."""

    symbol: str = ""
    exchange: str = ""
    times: Times = field(default_factory=Times)
    # Rows with floor <= offset < ceiling; a partition that a bound does not name stands at 0.
    floor: Offsets | None = None
    ceiling: Offsets | None = None

    def at_all_times(self) -> Selection:
        return replace(self, times=Times())


@lru_cache(maxsize=256)
def stored_columns(asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return the stored columns, in the table's order, that the asked ones and the order need.

    Columns that were added to the table come last.
    """
    needed = {name for column in asked for name in _DERIVED_FROM.get(column, (column,))}
    own = (name for name in TRADE_SCHEMA.names if name in needed or name in ORDER_COLUMNS)
    return (*own, *(name for name in asked if name not in _OWN))
