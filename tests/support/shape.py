"""Statistics of a trade stream that market microstructure goes by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.simulator.truth import TradeColumns

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Shape:
    """One symbol's statistics; an order is a run of trades with the same time and side."""

    trades_per_order: float
    trades_per_order_p99: float
    order_gap_p50_ms: float
    fano_100_ms: float
    fano_1_s: float
    fano_10_s: float
    same_side: float
    same_price_in_order: float
    same_price_next_order: float
    notional_p50: float
    notional_p99: float
    volatility_1_s_bp: float

    def named(self) -> Iterator[tuple[str, float]]:
        return ((name, getattr(self, name)) for name in self.__slots__)


def shape_of(trades: TradeColumns, symbol: str) -> Shape:
    """Measure one symbol of a session in milliseconds."""
    rows = [i for i, s in enumerate(trades.symbol) if s == symbol]
    time_ms = np.array([trades.time_us[i] // 1_000 for i in rows], dtype=np.int64)
    is_sell = np.array([trades.is_buyer_maker[i] for i in rows], dtype=np.bool_)
    price = np.array([float(trades.price[i]) for i in rows])
    notional = price * np.array([float(trades.quantity[i]) for i in rows])
    begins = np.r_[True, (np.diff(time_ms) != 0) | (is_sell[1:] != is_sell[:-1])]
    order = np.flatnonzero(begins)
    fills = np.diff(np.r_[order, len(rows)])
    same_price = np.r_[False, np.diff(price) == 0]
    follows = np.r_[False, is_sell[order][1:] == is_sell[order][:-1]]
    next_price = np.r_[False, np.diff(price[order]) == 0]
    return Shape(
        trades_per_order=float(fills.mean()),
        trades_per_order_p99=float(np.quantile(fills, 0.99)),
        order_gap_p50_ms=float(np.median(np.diff(time_ms[order]))),
        fano_100_ms=fano(time_ms[order], 100),
        fano_1_s=fano(time_ms[order], 1_000),
        fano_10_s=fano(time_ms[order], 10_000),
        same_side=float(follows[1:].mean()),
        same_price_in_order=float(same_price[~begins].mean()),
        same_price_next_order=float(next_price[follows].mean()),
        notional_p50=float(np.median(notional)),
        notional_p99=float(np.quantile(notional, 0.99)),
        volatility_1_s_bp=volatility_bp(time_ms, price),
    )


def fano(time_ms: Ints, window_ms: int) -> float:
    """Variance of the count in a window over its mean: 1 without clustering."""
    counts = np.bincount((time_ms - time_ms[0]) // window_ms)
    return float(counts.var() / counts.mean())


def volatility_bp(time_ms: Ints, price: Floats) -> float:
    """Standard deviation of the return in a second, in basis points."""
    seconds = np.arange(time_ms[0], time_ms[-1], 1_000)
    sampled = price[np.searchsorted(time_ms, seconds)]
    return float((np.diff(sampled) / sampled[:-1]).std() * 1e4)
