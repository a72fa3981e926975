"""A generated session: the same seed gives the same bytes, on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tools.simulator import shape
from tools.simulator.arrivals import OrderArrivals, Orders
from tools.simulator.chunk import Chunk, Form, Line, TimeUnit, TradeColumns
from tools.simulator.draws import Draws, Int64s
from tools.simulator.encoding import choice, decimal_text, integer_text, joined, stamps, wrapped
from tools.simulator.instruments import Instrument, instruments
from tools.simulator.market import Fills, Market

# 2026-01-05T09:00 UTC: a fixed start keeps a seed's bytes the same for ever.
START_US = 1_767_603_600_000_000
# Ten years: longer than anybody looks.
ENDLESS_S = 10 * 365 * 86_400.0
# From trade time to receive time: constant, and longer than any event delay, so that neither
# receive times nor a symbol's trades ever go back.
_TRANSIT_US = 41_000
# Ids go on while nobody looks: those of a later start never meet those of an earlier one, as long
# as no symbol trades more often than this.
_IDS_PER_S = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to generate. `trades` ends the session earlier than `duration_s` would."""

    seed: int = 1
    symbols: int = 20
    duration_s: float = 60.0
    rate: float = 1_000.0
    trades: int | None = None
    book_ticker: bool = False
    start_us: int = START_US
    time_unit: TimeUnit = "ms"


class GeneratedSession:
    """Lines are made as they are read and kept nowhere; each reading gives the same ones."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.time_unit = plan.time_unit
        traded_before = max(0, plan.start_us - START_US) // 1_000_000 * _IDS_PER_S
        self.instruments: tuple[Instrument, ...] = tuple(
            replace(i, first_trade_id=i.first_trade_id + traded_before)
            for i in instruments(plan.symbols, seed=plan.seed)
        )
        self.symbols = tuple(i.symbol for i in self.instruments)
        kinds = ("trade", "bookTicker") if plan.book_ticker else ("trade",)
        self.streams = tuple(f"{s.lower()}@{kind}" for kind in kinds for s in self.symbols)

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last receive time there can be, in Unix nanoseconds."""
        start_ns = self.plan.start_us * 1_000
        return start_ns, start_ns + int(self.plan.duration_s * 1e9) + _TRANSIT_US * 1_000

    def __iter__(self) -> Iterator[Line]:
        for chunk in self.chunks():
            yield from chunk.lines(self.time_unit)

    def chunks(self) -> Iterator[Chunk]:
        """Generate the session anew, some thousand messages at a time."""
        left = self.plan.trades
        for chunk in self._without_limit():
            if left is not None and len(chunk.trades) >= left:
                yield chunk.head(int(chunk.trades.message[left - 1]) + 1 if left else 0)
                return
            left = None if left is None else left - len(chunk.trades)
            yield chunk

    def _without_limit(self) -> Iterator[Chunk]:
        plan = self.plan
        orders_per_s = plan.rate / shape.FILLS.mean
        arrivals = OrderArrivals(plan.seed, symbols=plan.symbols, orders_per_s=orders_per_s)
        market = Market(plan.seed, self.instruments)
        printer = _Printer(plan, self.symbols)
        end_ns = int(plan.duration_s * 1e9)
        while True:
            orders = arrivals.next_chunk()
            within = int(np.searchsorted(orders.time_ns, end_ns))
            if within:
                kept = orders.pick(np.arange(within))
                yield printer.chunk(kept, market.fill(kept))
            if within < len(orders):
                return


class _Printer:
    """Turns fills into messages, in the order the exchange would send them."""

    def __init__(self, plan: Plan, symbols: tuple[str, ...]) -> None:
        self._plan = plan
        self._symbols = symbols
        self._draws = Draws(plan.seed, "printer")
        self._orders_seen = 0

    def chunk(self, orders: Orders, fills: Fills) -> Chunk:
        time_us = self._plan.start_us + orders.time_ns // 1_000
        event_us = time_us + shape.EVENT_DELAY_US.at(self._draws.uniform(len(orders)))
        symbol = orders.symbol[fills.order]
        trades = TradeColumns(
            np.arange(len(fills)),
            symbol,
            fills.trade_id,
            time_us[fills.order],
            decimal_text(fills.price),
            decimal_text(fills.quantity),
            orders.is_sell[fills.order],
        )
        received_ns = (trades.time_us + _TRANSIT_US) * 1_000
        messages = _TradeMessages(self._symbols, trades, event_us[fills.order])
        chunk = Chunk(received_ns, symbol, trades, messages.render)
        return self._with_tickers(chunk, orders, fills) if self._plan.book_ticker else chunk

    def _with_tickers(self, chunk: Chunk, orders: Orders, fills: Fills) -> Chunk:
        """Put the best prices an order met before its trades."""
        first_fill = np.flatnonzero(np.diff(fills.order, prepend=-1))
        ticker_at = first_fill + np.arange(len(orders))
        trade_at = chunk.trades.message + fills.order + 1
        place = np.argsort(np.concatenate([trade_at, ticker_at]))
        tickers = self._tickers(orders, fills)
        streams = np.concatenate([chunk.stream, orders.symbol + len(self._symbols)])
        received = np.concatenate([chunk.received_ns, chunk.received_ns[first_fill]])
        return Chunk(
            received[place],
            streams[place],
            _moved(chunk.trades, trade_at),
            lambda form: _in_order(place, chunk.render(form), tickers.render(form)),
        )

    def _tickers(self, orders: Orders, fills: Fills) -> _TickerMessages:
        count = len(orders)
        update_id = self._orders_seen + np.arange(count) + 1
        self._orders_seen += count
        sizes = [self._draws.uniform(count) % 1_000_000_000 // 10_000 * 10_000 for _ in range(2)]
        return _TickerMessages(
            self._symbols, orders.symbol, update_id, fills.bid, fills.ask, sizes[0], sizes[1]
        )


@dataclass(frozen=True, slots=True)
class _TradeMessages:
    symbols: tuple[str, ...]
    trades: TradeColumns
    event_us: Int64s

    def render(self, form: Form) -> pa.BinaryArray:
        trades = self.trades
        return joined(
            _opening(self.symbols, "trade", form, trades.symbol, b'{"e":"trade","E":'),
            stamps(self.event_us, form),
            choice([b',"s":"%s","t":' % s.encode() for s in self.symbols], trades.symbol),
            integer_text(trades.trade_id),
            b',"p":"',
            trades.price.cast(pa.binary()),
            b'","q":"',
            trades.quantity.cast(pa.binary()),
            b'","T":',
            stamps(trades.time_us, form),
            choice(_CLOSINGS[form.combined], trades.is_buyer_maker),
        )


@dataclass(frozen=True, slots=True)
class _TickerMessages:
    symbols: tuple[str, ...]
    symbol: Int64s
    update_id: Int64s
    bid: Int64s
    ask: Int64s
    bid_size: Int64s
    ask_size: Int64s

    def render(self, form: Form) -> pa.BinaryArray:
        return joined(
            _opening(self.symbols, "bookTicker", form, self.symbol, b'{"u":'),
            integer_text(self.update_id),
            choice([b',"s":"%s","b":"' % s.encode() for s in self.symbols], self.symbol),
            decimal_text(self.bid).cast(pa.binary()),
            b'","B":"',
            decimal_text(self.bid_size).cast(pa.binary()),
            b'","a":"',
            decimal_text(self.ask).cast(pa.binary()),
            b'","A":"',
            decimal_text(self.ask_size).cast(pa.binary()),
            b'"}}' if form.combined else b'"}',
        )


_CLOSINGS = {
    True: (b',"m":false,"M":true}}', b',"m":true,"M":true}}'),
    False: (b',"m":false,"M":true}', b',"m":true,"M":true}'),
}


def _opening(
    symbols: tuple[str, ...], kind: str, form: Form, symbol: Int64s, raw: bytes
) -> pa.BinaryArray:
    names = [f"{s.lower()}@{kind}" for s in symbols]
    return choice(wrapped(names, form, [raw] * len(names)), symbol)


def _in_order(place: Int64s, *messages: pa.BinaryArray) -> pa.BinaryArray:
    return pa.concat_arrays(messages).take(pa.array(place))


def _moved(trades: TradeColumns, message: Int64s) -> TradeColumns:
    return TradeColumns(
        message,
        trades.symbol,
        trades.trade_id,
        trades.time_us,
        trades.price,
        trades.quantity,
        trades.is_buyer_maker,
    )
