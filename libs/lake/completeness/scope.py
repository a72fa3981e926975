"""What a completeness question is about, and which series and partitions that concerns. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.coverage import Series
from libs.lake.ledger.gaps import EARLIEST_US, LATEST_US
from libs.market.bucket import bucket_of

TOPIC_PARTS = 4


@dataclass(frozen=True, slots=True)
class Scope:
    """What is asked about: a symbol, or all; times [start, end); ids first to last, both in."""

    symbol: str = ""
    exchange: str = ""
    start_us: int = EARLIEST_US
    end_us: int = LATEST_US
    first_id: int | None = None
    last_id: int | None = None

    def covers(self, series: Series) -> bool:
        return self.symbol in ("", series.symbol) and self.exchange in ("", series.exchange)

    def concerns(self, position: TopicPartition) -> bool:
        """Say whether records of the symbol go to this partition."""
        origin = origin_of(position.topic)
        if origin is None:
            return True
        if self.exchange and origin.exchange != self.exchange.lower():
            return False
        return not self.symbol or position.partition == bucket_of(self.symbol)


class Origin(NamedTuple):
    """Whose records a topic holds, in the lower case of its name."""

    asset_class: str
    exchange: str


def origin_of(topic: str) -> Origin | None:
    """Return whose records a topic holds: market.<asset_class>.<type>.<exchange>."""
    parts = topic.split(".")
    return Origin(parts[1], parts[3]) if len(parts) == TOPIC_PARTS else None


def comes_from(series: Series, origin: Origin) -> bool:
    return (series.asset_class.lower(), series.exchange.lower()) == origin
