"""Bars folded in memory are plain arithmetic, however large the numbers are."""

from __future__ import annotations

from decimal import Context, Decimal
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.wire.schema import NOTIONAL, NUMBER, TIMESTAMP
from services.query.reading.folded import folded

INTERVAL_US = 60_000_000
LARGEST = 10**38 - 1
ONE = 10**12
WIDE = Context(prec=76)


class Row(NamedTuple):
    time_us: int
    offset: int
    price: int
    quantity: int
    notional: int | None


def around(power: int) -> st.SearchStrategy[int]:
    return st.integers(2**power - 2, 2**power + 2)


QUANTITIES = st.integers(0, 10**28 - 1) | around(32) | around(64)
PRICES = st.integers(0, 2**63 - 1)
NOTIONALS = st.integers(0, 2**104 - 1) | around(64)
LARGE_PRICES = st.integers(0, 10**20) | around(63)
LARGE_NOTIONALS = st.none() | st.integers(0, LARGEST) | around(104)


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Draw rows in any order, several of one time; offsets tell those apart."""
    large = draw(st.booleans())
    prices = LARGE_PRICES if large else PRICES
    notionals = LARGE_NOTIONALS if large else NOTIONALS
    times = draw(
        st.lists(st.integers(0, 10).map(lambda n: n * 15_000_000), min_size=1, max_size=12)
    )
    offsets = draw(st.permutations(range(len(times))))
    return [
        Row(time_us, offset, draw(prices), draw(QUANTITIES), draw(notionals))
        for time_us, offset in zip(times, offsets, strict=True)
    ]


def table(found: list[Row]) -> pa.Table:
    def decimals(units: list[int] | list[int | None], kind: pa.DataType) -> pa.Array:
        return pa.array([None if n is None else Decimal(n).scaleb(-12, WIDE) for n in units], kind)

    return pa.table(
        {
            "timestamp": pa.array([row.time_us for row in found], TIMESTAMP),
            "kafka_offset": pa.array([row.offset for row in found], pa.int64()),
            "price": decimals([row.price for row in found], NUMBER),
            "quantity": decimals([row.quantity for row in found], NUMBER),
            "notional": decimals([row.notional for row in found], NOTIONAL),
        }
    )


def product(row: Row) -> int:
    """Return a row's notional as it is stored, or price times quantity, half even."""
    if row.notional is not None:
        return row.notional
    whole, rest = divmod(row.price * row.quantity, ONE)
    return whole + (2 * rest > ONE or (2 * rest == ONE and whole % 2))


def plain_bar(time_us: int, found: list[Row]) -> tuple[int, ...]:
    prices = [row.price for row in found]
    volume, money = sum(row.quantity for row in found), sum(map(product, found))
    return (
        time_us,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        volume,
        money,
        len(found),
        0,
    )


def units(value: int | Decimal) -> int:
    return value if isinstance(value, int) else int(value.scaleb(12, WIDE))


def is_plain(row: Row) -> bool:
    return row.price < 2**63 and max(row.quantity, product(row)) < 2**104


@settings(max_examples=60)
@given(rows())
def test_folded_bars_are_plain_arithmetic(found: list[Row]) -> None:
    """To the last digit, or not at all: then DuckDB is asked."""
    bars = folded(table(found), INTERVAL_US)
    assert (bars is not None) == all(map(is_plain, found))
    if bars is not None:
        ordered = groupby(sorted(found), key=lambda row: row.time_us // INTERVAL_US * INTERVAL_US)
        told = [tuple(map(units, bar.values())) for bar in bars.to_pylist()]
        assert told == [plain_bar(time_us, list(of_bar)) for time_us, of_bar in ordered]


def test_most_rows_of_the_largest_numbers_are_added_up() -> None:
    """The most that is folded still fits 38 digits."""
    bars = folded(table([Row(0, at, 1, 1, 2**104 - 1) for at in range(2**12)]), INTERVAL_US)
    assert bars is not None
    assert units(bars["notional"][0].as_py()) == 2**12 * (2**104 - 1)
    assert LARGEST >= 2**20 * (2**104 - 1)


def test_larger_numbers_are_left_to_duckdb() -> None:
    """Each number has its own bound."""
    plain = Row(0, 0, 2**63 - 1, 10**28 - 1, 2**104 - 1)
    larger = [plain._replace(price=2**63), plain._replace(notional=2**104)]
    assert folded(table([plain]), INTERVAL_US) is not None
    assert [folded(table([row]), INTERVAL_US) for row in larger] == [None, None]
