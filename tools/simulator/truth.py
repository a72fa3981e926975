r"""What a reader of a session must end up with, computed from the session's lines alone.

The content hash of a symbol is SHA-256 over one line for each trade, by rising trade id, no id
twice, in UTF-8:

    <symbol>|<trade id>|<price>|<quantity>|<trade time>|<is buyer maker>\n

price and quantity are plain decimal text without needless zeros: no exponent, no sign, no trailing
zeros after the point, no point without decimals ("61837.63", "0.02", "5"); the trade time is whole
microseconds since 1970 UTC (a session in milliseconds gives multiples of 1000); is buyer maker is 1
where the buyer was the maker, so the taker sold (side SELL), else 0.

    BTCUSDT|3735683259|61837.63|0.02|1723161255342000|1
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from tools.simulator.chunk import Line

_FIRST_MICROSECOND = 10**14


@dataclass(frozen=True, slots=True)
class ExpectedTrades:
    """One symbol's part of the truth."""

    symbol: str
    count: int
    first_id: int
    last_id: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TradeColumns:
    """Trades in the order of the lines; price and quantity as the exchange printed them."""

    symbol: list[str]
    trade_id: list[int]
    price: list[str]
    quantity: list[str]
    time_us: list[int]
    is_buyer_maker: list[bool]


class TradeHash:
    """The hash of one symbol's trades, fed by rising trade id."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.count = 0
        self.first_id = -1
        self.last_id = -1
        self._hash = hashlib.sha256()

    def add(
        self, trade_id: int, price: str, quantity: str, time_us: int, *, is_buyer_maker: bool
    ) -> None:
        """Add the next trade; one that was added already counts once.

        Raises:
            ValueError: its id is below that of the one before.
        """
        if trade_id == self.last_id:
            return
        if trade_id < self.last_id:
            raise ValueError(f"{self.symbol} trade {trade_id} comes after {self.last_id}")
        numbers = f"{plain(price)}|{plain(quantity)}|{time_us}|{is_buyer_maker:d}"
        self._hash.update(f"{self.symbol}|{trade_id}|{numbers}\n".encode())
        self.first_id = trade_id if self.count == 0 else self.first_id
        self.last_id = trade_id
        self.count += 1

    def expected(self) -> ExpectedTrades:
        return ExpectedTrades(
            self.symbol, self.count, self.first_id, self.last_id, self._hash.hexdigest()
        )


def expected(lines: Iterable[Line]) -> dict[str, ExpectedTrades]:
    """Return what every symbol's trades must be; memory does not grow with the session."""
    hashes: dict[str, TradeHash] = {}
    for trade in _trades(lines):
        digest = hashes.get(trade.s)
        if digest is None:
            digest = hashes[trade.s] = TradeHash(trade.s)
        digest.add(trade.t, trade.p, trade.q, _microseconds(trade.T), is_buyer_maker=trade.m)
    return {symbol: digest.expected() for symbol, digest in sorted(hashes.items())}


def columns(lines: Iterable[Line]) -> TradeColumns:
    """Return every trade of a session that fits in memory."""
    trades = list(_trades(lines))
    return TradeColumns(
        [trade.s for trade in trades],
        [trade.t for trade in trades],
        [trade.p for trade in trades],
        [trade.q for trade in trades],
        [_microseconds(trade.T) for trade in trades],
        [trade.m for trade in trades],
    )


def plain(number: str) -> str:
    """Return decimal text without exponent and needless zeros."""
    if "E" in number or "e" in number:
        number = format(Decimal(number), "f")
    return number.rstrip("0").rstrip(".") if "." in number else number


class _Trade(msgspec.Struct, gc=False):
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool


class _Message(msgspec.Struct, gc=False):
    data: _Trade


def _trades(lines: Iterable[Line]) -> Iterable[_Trade]:
    decode = msgspec.json.Decoder(_Message).decode
    return (decode(message).data for _, message in lines if b'@trade"' in message[:64])


def _microseconds(stamp: int) -> int:
    return stamp if stamp >= _FIRST_MICROSECOND else stamp * 1_000
