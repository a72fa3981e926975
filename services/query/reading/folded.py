"""Bars of rows that lie in memory: exact whole numbers by the column, without SQL."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from libs.wire.decimal_words import UInt64s, decimals_of, words_of
from libs.wire.schema import NOTIONAL, NUMBER
from services.query.answers import full_notional
from services.query.reading.rows import ints, whole

Int64s = npt.NDArray[np.int64]

_HALF_WORD = np.uint64(2**32 - 1)
_HALF_BITS = np.uint64(32)
_SIGN = np.uint64(2**63)
_MOST_HIGH = np.uint64(2**40)


def folded(rows: pa.Table, interval_us: int) -> pa.Table | None:
    """Return the bars of one partition's rows, one at least and fewer than 2^20; oldest first.

    None where a price passes 63 bits, another number 104, or a notional fits nowhere: the rest
    of the numbers add up to 38 digits at most.
    """
    rows = in_order(rows)
    prices = small_words(whole(rows["price"]))
    quantities = small_words(whole(rows["quantity"]))
    notionals = small_words(whole(full_notional(rows)))
    if prices is None or quantities is None or notionals is None or past_63_bits(prices):
        return None
    intervals = ints(rows, "timestamp") // interval_us
    starts = np.flatnonzero(np.diff(intervals, prepend=intervals[:1] - 1))
    ends = np.append(starts[1:], len(intervals))
    units = prices[:, 0]
    return pa.table(
        {
            "time_us": intervals[starts] * interval_us,
            "open": price_array(units[starts]),
            "high": price_array(np.maximum.reduceat(units, starts)),
            "low": price_array(np.minimum.reduceat(units, starts)),
            "close": price_array(units[ends - 1]),
            "volume": sums(quantities, starts),
            "notional": sums(notionals, starts),
            "trades": ends - starts,
            "without_notional": np.zeros(len(starts), np.int64),
        }
    )


def in_order(rows: pa.Table) -> pa.Table:
    order = np.lexsort((ints(rows, "kafka_offset"), ints(rows, "timestamp")))
    ordered = bool((np.diff(order) == 1).all())
    return rows if ordered else rows.take(pa.array(order))


def small_words(numbers: pa.Array) -> UInt64s | None:
    """View decimals as (low, high) words; None where one is null, negative or past 104 bits."""
    if numbers.null_count:
        return None
    words = words_of(numbers)
    return words if bool((words[:, 1] < _MOST_HIGH).all()) else None


def past_63_bits(words: UInt64s) -> bool:
    return bool(words[:, 1].any() or (words[:, 0] >= _SIGN).any())


def price_array(units: UInt64s) -> pa.Array:
    return decimals(units, np.zeros_like(units), NUMBER)


def sums(words: UInt64s, starts: Int64s) -> pa.Array:
    """Add up each stretch of 128-bit numbers, by 32 bits so that no sum passes 64."""
    low = np.add.reduceat(words[:, 0] & _HALF_WORD, starts)
    middle = np.add.reduceat(words[:, 0] >> _HALF_BITS, starts) + (low >> _HALF_BITS)
    high = np.add.reduceat(words[:, 1], starts) + (middle >> _HALF_BITS)
    return decimals((middle << _HALF_BITS) | (low & _HALF_WORD), high, NOTIONAL)


def decimals(low: UInt64s, high: UInt64s, kind: pa.DataType) -> pa.Array:
    return decimals_of(np.stack([low, high], axis=1), kind)
