"""What sessions tell the publisher."""

from __future__ import annotations

from dataclasses import dataclass

from services.ingestor.binance import Rejected
from services.ingestor.columns import TradeColumns


@dataclass(frozen=True, slots=True)
class Received:
    """A burst that one connection brought."""

    connection: int
    trades: TradeColumns
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection is closed, and everything it brought was told."""

    connection: int


Message = Received | Ended
