"""Price times quantity, exactly."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.market.trade import DECIMALS
from libs.wire.decimal_words import UInt64s, decimals_of, words_of
from libs.wire.schema import NOTIONAL

_MILLION = np.uint64(10 ** (DECIMALS // 2))
_ONE = np.uint64(10**DECIMALS)
_HALF = np.uint64(10**DECIMALS // 2)
_WORD_LIMIT = np.uint64(2**62)
_LARGEST = pa.scalar(Decimal(10**38 - 1).scaleb(-DECIMALS), pa.decimal256(76, DECIMALS))
# Read by all columns of nulls: pages that nobody writes to take no memory.
_NULLS = 1 << 16
_VALIDITY = pa.py_buffer(np.zeros(_NULLS // 8, np.uint8))
_NOTHING = pa.py_buffer(np.zeros(_NULLS * 2, np.uint64))


def no_notional(rows: int) -> pa.Array:
    """Return a column of nulls, which shares its memory with others."""
    if rows > _NULLS:
        return pa.nulls(rows, NOTIONAL)
    return pa.Array.from_buffers(NOTIONAL, rows, [_VALIDITY, _NOTHING])


def notional(price: pa.Array, quantity: pa.Array) -> pa.Array:
    """Multiply two decimal128(28, 12) arrays, rounding half even to 12 decimals.

    The result is decimal128(38, 12), null where a factor is null or the product does not fit.
    Rows that fit 64-bit words go through numpy: 5 times as fast as Arrow's decimal256.
    """
    if price.null_count or quantity.null_count or not len(price):
        return _notional_wide(price, quantity)
    prices, quantities = words_of(price), words_of(quantity)
    narrow = _fits(prices, quantities)
    product = _notional_narrow(prices[:, 0], quantities[:, 0])
    if narrow.all():
        return product
    wide = pa.array(~narrow)
    replacements = _notional_wide(price.filter(wide), quantity.filter(wide))
    return pc.replace_with_mask(product, wide, replacements)


def _fits(prices: UInt64s, quantities: UInt64s) -> npt.NDArray[np.bool_]:
    """Say which rows' factors are not negative and, like their product, below 2^62."""
    low_price, low_quantity = prices[:, 0], quantities[:, 0]
    product = low_price.astype(np.float64) * low_quantity.astype(np.float64)
    fits: npt.NDArray[np.bool_] = (prices[:, 1] | quantities[:, 1]) == 0
    fits &= (low_price | low_quantity) < _WORD_LIMIT
    fits &= product < float(2**61) * float(_ONE)
    return fits


def _notional_narrow(price: UInt64s, quantity: UInt64s) -> pa.Array:
    """Long multiplication in base 10^6; rows that do not fit come out as any number."""
    a, c = price // _MILLION, quantity // _MILLION
    b, d = price - a * _MILLION, quantity - c * _MILLION
    low = b * d
    middle = a * d + b * c + low // _MILLION
    whole = a * c + middle // _MILLION
    rest = (middle % _MILLION) * _MILLION + low % _MILLION
    whole += (rest > _HALF) | ((rest == _HALF) & ((whole & np.uint64(1)) == 1))
    words = np.zeros((len(price), 2), np.uint64)
    words[:, 0] = whole
    return decimals_of(words, NOTIONAL)


def _notional_wide(price: pa.Array, quantity: pa.Array) -> pa.Array:
    product = pc.multiply(price.cast(pa.decimal256(29, DECIMALS)), quantity)
    rounded = pc.round(product, DECIMALS, "half_to_even").cast(pa.decimal256(64, DECIMALS))
    fits = pc.less_equal(pc.abs(rounded), _LARGEST)
    kept = pc.if_else(fits, rounded, pa.scalar(None, rounded.type))
    return kept.cast(NOTIONAL)
