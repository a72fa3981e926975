"""The trades that have passed, for REST: the newest ones, up to a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tools.simulator.chunk import TradeColumns
from tools.simulator.draws import Int64s


@dataclass(frozen=True, slots=True)
class PastTrade:
    """One trade as REST tells it; `aggregate` numbers the run of trades it belongs to."""

    trade_id: int
    price: str
    quantity: str
    time_us: int
    is_buyer_maker: bool
    aggregate: int


@dataclass(slots=True)
class SymbolTotals:
    """What has passed of one symbol since the session began."""

    trades: int = 0
    first_id: int = -1
    last_id: int = -1
    last_price: str = ""


@dataclass(slots=True)
class _Stretch:
    trades: TradeColumns
    aggregate: Int64s
    passed: int = 0


@dataclass(slots=True)
class History:
    """Trades by symbol, appended as the session goes on."""

    symbols: Sequence[str]
    most_trades: int = 1_000_000
    kept: int = 0
    passed: int = 0
    totals: dict[str, SymbolTotals] = field(default_factory=dict)
    _stretches: deque[_Stretch] = field(default_factory=deque)
    _aggregates: dict[int, int] = field(default_factory=dict)

    def begin(self, trades: TradeColumns) -> None:
        """Take the trades of the next chunk, none of which has passed yet."""
        self._stretches.append(_Stretch(trades, self._numbered(trades)))
        self.kept += len(trades)
        while self.kept > self.most_trades and len(self._stretches) > 1:
            self.kept -= len(self._stretches.popleft().trades)

    def advance(self, rows: int) -> None:
        """Let trades of the newest chunk pass, up to row `rows`."""
        stretch = self._stretches[-1]
        if rows > stretch.passed:
            self._count(stretch.trades, stretch.passed, rows)
        self.passed += rows - stretch.passed
        stretch.passed = rows

    def newest(self, symbol: str, limit: int) -> list[PastTrade]:
        """Return the last `limit` trades of a symbol, by id."""
        found: list[PastTrade] = []
        for stretch in reversed(self._stretches):
            rows = self._rows(stretch, symbol)[-(limit - len(found)) :]
            found = _read(stretch, rows) + found
            if len(found) >= limit:
                break
        return found

    def from_id(self, symbol: str, first_id: int) -> Iterator[PastTrade]:
        """Yield a symbol's trades from an id on."""
        for stretch in list(self._stretches):
            rows = self._rows(stretch, symbol)
            yield from _read(stretch, rows[stretch.trades.trade_id[rows] >= first_id])

    def from_time(self, symbol: str, start_us: int) -> Iterator[PastTrade]:
        """Yield a symbol's trades from a time on."""
        for stretch in list(self._stretches):
            rows = self._rows(stretch, symbol)
            yield from _read(stretch, rows[stretch.trades.time_us[rows] >= start_us])

    def _numbered(self, trades: TradeColumns) -> Int64s:
        """Number the runs of trades of one symbol that share time, price and side."""
        by_symbol = np.argsort(trades.symbol, kind="stable")
        price = trades.price.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        is_new = np.zeros(len(trades), dtype=np.bool_)
        for column in (trades.symbol, trades.time_us, price, trades.is_buyer_maker):
            sorted_column = column[by_symbol]
            is_new[1:] |= sorted_column[1:] != sorted_column[:-1]
        run = np.cumsum(is_new)
        numbers = np.empty(len(trades), dtype=np.int64)
        for symbol in np.unique(trades.symbol).tolist():
            rows = by_symbol[trades.symbol[by_symbol] == symbol]
            own = run[trades.symbol[by_symbol] == symbol]
            numbers[rows] = own - own[0] + self._aggregates.get(symbol, 0) + 1
            self._aggregates[symbol] = int(numbers[rows[-1]])
        return numbers

    def _count(self, trades: TradeColumns, start: int, end: int) -> None:
        symbols = trades.symbol[start:end]
        _, first, counts = np.unique(symbols, return_index=True, return_counts=True)
        present, last = np.unique(symbols[::-1], return_index=True)
        columns = (present, first + start, end - 1 - last, counts)
        for symbol, first_row, last_row, count in zip(*(c.tolist() for c in columns), strict=True):
            totals = self.totals.setdefault(self.symbols[symbol], SymbolTotals())
            if totals.trades == 0:
                totals.first_id = int(trades.trade_id[first_row])
            totals.trades += count
            totals.last_id = int(trades.trade_id[last_row])
            totals.last_price = trades.price[last_row].as_py()

    def _rows(self, stretch: _Stretch, symbol: str) -> Int64s:
        index = self.symbols.index(symbol)
        return np.flatnonzero(stretch.trades.symbol[: stretch.passed] == index)


def _read(stretch: _Stretch, rows: Int64s) -> list[PastTrade]:
    trades = stretch.trades
    return [
        PastTrade(
            int(trades.trade_id[row]),
            trades.price[row].as_py(),
            trades.quantity[row].as_py(),
            int(trades.time_us[row]),
            bool(trades.is_buyer_maker[row]),
            int(stretch.aggregate[row]),
        )
        for row in rows.tolist()
    ]
