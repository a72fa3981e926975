"""What orders do to prices: fills that walk the book, a touch that moves, all on the grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tools.simulator import shape
from tools.simulator.arrivals import Orders
from tools.simulator.draws import ONE, Bools, Draws, Int64s
from tools.simulator.instruments import UNIT, Instrument

# The touch is kept in 2**-16 of a tick, so that cheap symbols move at all.
_TICK_BITS = 16
_DISTANCE_SCALE = 10**10
_LOT_BITS = 24
_CENT = UNIT // 100
# A buyer pushes the price up six times in ten.
_PUSH = ONE // 10
# At 2 % from its start a price is drawn back three times in ten more often than not.
_PULL = 3 * ONE // 10
_PULL_AT = 50
# An order walks the book by at most 0.5 %.
_LONGEST_WALK = 200


@dataclass(frozen=True, slots=True)
class Fills:
    """Fills in order of time: columns of equal length.

    `order` is the row of the order each belongs to; price and quantity in 1e-8. Of each order:
    `bid` and `ask` are the best prices it met, in 1e-8.
    """

    order: Int64s
    trade_id: Int64s
    price: Int64s
    quantity: Int64s
    bid: Int64s
    ask: Int64s

    def __len__(self) -> int:
        return len(self.order)


class Market:
    """Prices and trade ids of all symbols, as orders arrive."""

    def __init__(self, seed: int, instruments: Sequence[Instrument]) -> None:
        self._draws = Draws(seed, "market")
        self._tick = _column(i.tick for i in instruments)
        self._lot = _column(i.lot for i in instruments)
        self._start_ticks = _column(i.price_ticks for i in instruments)
        self._lots_a_cent = _column(
            (1 << _LOT_BITS) * _CENT * UNIT // (i.price * i.lot) for i in instruments
        )
        self._moved = np.zeros(len(instruments), dtype=np.int64)
        self._next_id = _column(i.first_trade_id for i in instruments)

    def fill(self, orders: Orders) -> Fills:
        """Match orders, which follow those of the call before."""
        count = np.maximum(1, shape.FILLS.at(self._draws.uniform(len(orders))))
        order = np.repeat(np.arange(len(orders)), count)
        bid_ticks = self._start_ticks[orders.symbol] + (self._touch(orders) >> _TICK_BITS)
        ticks = self._walk(orders, order, bid_ticks)
        tick = self._tick[orders.symbol]
        symbol = orders.symbol[order]
        return Fills(
            order,
            self._ids(symbol),
            ticks * tick[order],
            self._lots(symbol) * self._lot[symbol],
            bid_ticks * tick,
            (bid_ticks + 1) * tick,
        )

    def _touch(self, orders: Orders) -> Int64s:
        """How far each order finds the bid from its start, in 2**-16 of a tick; then move it."""
        moves = self._draws.chance(len(orders), shape.MOVE)
        size = shape.MOVE_SIZE.at(self._draws.uniform(len(orders)))
        far = (self._start_ticks << _TICK_BITS)[orders.symbol]
        step = np.where(self._rises(orders), 1, -1) * moves * (far * size // _DISTANCE_SCALE)
        by_symbol = np.argsort(orders.symbol, kind="stable")
        after = running_sums(step[by_symbol], orders.symbol[by_symbol])
        found = np.empty(len(orders), dtype=np.int64)
        found[by_symbol] = after - step[by_symbol]
        found += self._moved[orders.symbol]
        np.add.at(self._moved, orders.symbol, step)
        return found

    def _rises(self, orders: Orders) -> Bools:
        away = self._moved * _PULL_AT // (self._start_ticks << (_TICK_BITS - 8))
        pull = np.clip(away, -256, 256) * _PULL >> 8
        push = np.where(orders.is_sell, -_PUSH, _PUSH)
        return self._draws.chance(len(orders), ONE // 2 + push - pull[orders.symbol])

    def _walk(self, orders: Orders, order: Int64s, bid_ticks: Int64s) -> Int64s:
        """Price of each fill in ticks: the first at the touch, the next ones at or beyond it."""
        walks = self._draws.chance(len(order), shape.WALK)
        size = shape.WALK_SIZE.at(self._draws.uniform(len(order)))
        start = self._start_ticks[orders.symbol][order]
        is_first = np.diff(order, prepend=-1) > 0
        step = np.maximum(1, start * size // _DISTANCE_SCALE) * (walks & ~is_first)
        depth = np.minimum(running_sums(step, order), start // _LONGEST_WALK)
        is_sell = orders.is_sell[order]
        touch = bid_ticks[order]
        ticks: Int64s = np.maximum(1, np.where(is_sell, touch - depth, touch + 1 + depth))
        return ticks

    def _lots(self, symbol: Int64s) -> Int64s:
        cents = shape.NOTIONAL_CENTS.at(self._draws.uniform(len(symbol)))
        lots: Int64s = np.maximum(1, cents * self._lots_a_cent[symbol] >> _LOT_BITS)
        return lots

    def _ids(self, symbol: Int64s) -> Int64s:
        by_symbol = np.argsort(symbol, kind="stable")
        rank = np.empty(len(symbol), dtype=np.int64)
        rank[by_symbol] = running_sums(np.ones_like(symbol), symbol[by_symbol]) - 1
        ids = self._next_id[symbol] + rank
        self._next_id += np.bincount(symbol, minlength=len(self._next_id))
        return ids


def running_sums(steps: Int64s, groups: Int64s) -> Int64s:
    """Cumulate `steps` within each run of equal `groups`."""
    sums: Int64s = np.cumsum(steps)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    lengths = np.diff(np.append(starts, len(groups)))
    return sums - np.repeat((sums - steps)[starts], lengths)


def _column(numbers: Iterable[int]) -> Int64s:
    return np.array(list(numbers), dtype=np.int64)
