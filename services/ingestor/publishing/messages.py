"""What sessions and the healer tell the publisher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.ingestor.parsing.binance import Rejected
from services.ingestor.parsing.columns import TradeColumns


@dataclass(frozen=True, slots=True)
class Received:
    """A burst that one connection brought."""

    connection: int
    trades: TradeColumns
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection carries these symbols from now on; before it, maybe none did for a while."""

    connection: int
    codes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection is closed, and everything it brought was told."""

    connection: int


@dataclass(frozen=True, slots=True)
class Healed:
    """Trades of one symbol that a connection had missed, by rising id."""

    code: int
    trades: TradeColumns


@dataclass(frozen=True, slots=True)
class NeverWere:
    """Ids of a symbol that the exchange never had, as the table's ledger now says."""

    code: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Listed:
    """The exchange lists trades of a symbol behind the id `after`, up to `last`."""

    code: int
    after: int
    last: int


Message = Received | Opened | Ended | Healed | NeverWere | Listed
