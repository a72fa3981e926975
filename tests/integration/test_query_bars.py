"""Bars from real data files and the tail are what plain arithmetic gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from libs.lake.table.tables import bucket_of
from libs.wire.schema import NOTIONAL, NUMBER
from services.query.answers import bar_payloads
from services.query.asked import Selection, Times
from services.query.reading import bars as reading_bars
from services.query.reading.bars import BarsAsked, newest_bars
from services.query.reading.engine import Cursor, Engine
from services.query.reading.folded import folded
from tests.support.query import FIRST_US, History, history_in, tail_of, trade_rows

SYMBOL = "BTCUSDT"
MINUTE_US = 60_000_000
Bar = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, Decimal | None, int]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = history_in(tmp_path)
    with closing(made.lake):
        yield made


@pytest.fixture
def cursor(tmp_path: Path) -> Iterator[Cursor]:
    engine = Engine(threads=1, memory_limit_bytes=2**28, spill_dir=tmp_path / "spill")
    with closing(engine), closing(engine.cursor()) as made:
        yield made


def commit(history: History, rows: pa.RecordBatch) -> None:
    at = rows["kafka_offset"].to_pylist()
    history.commit(rows, {bucket_of(SYMBOL): (min(at), max(at) + 1)})


def plain_bars(*batches: pa.RecordBatch) -> list[Bar]:
    """Make bars row by row in Python."""
    rows = sorted(
        zip(*(column_values(batches, name) for name in PLAIN_COLUMNS), strict=True),
    )
    bars: dict[int, list[tuple[int, int, Decimal, Decimal]]] = {}
    for row in rows:
        bars.setdefault(row[0] // MINUTE_US * MINUTE_US, []).append(row)
    return [plain_bar(time_us, found) for time_us, found in bars.items()]


PLAIN_COLUMNS = ("timestamp", "kafka_offset", "price", "quantity")


def column_values(batches: tuple[pa.RecordBatch, ...], name: str) -> list[object]:
    found = pa.concat_batches(batches)[name]
    values: list[object] = (found.view(pa.int64()) if name == "timestamp" else found).to_pylist()
    return values


def plain_bar(time_us: int, rows: list[tuple[int, int, Decimal, Decimal]]) -> Bar:
    prices = [price for _, _, price, _ in rows]
    volume = sum((quantity for *_, quantity in rows), Decimal(0))
    money = sum((price * quantity for _, _, price, quantity in rows), Decimal(0))
    return (time_us, prices[0], max(prices), min(prices), prices[-1], volume, money, len(rows))


def found_bars(bars: pa.Table) -> list[Bar]:
    names = ("time_us", "open", "high", "low", "close", "volume", "notional", "trades")
    return list(zip(*(bars[name].to_pylist() for name in names), strict=True))


# In memory; by DuckDB because they are many, turn out to be more than expected, or are too large.
@pytest.mark.parametrize(
    ("most_rows", "expected", "large"),
    [(1_000, 900, False), (100, 900, False), (100, 50, False), (1_000, 900, True)],
)
@pytest.mark.parametrize("enriched", [True, False])
def test_bars_are_plain_arithmetic(
    history: History,
    cursor: Cursor,
    monkeypatch: pytest.MonkeyPatch,
    enriched: bool,
    most_rows: int,
    expected: int,
    large: bool,
) -> None:
    """Over files and tail, with ties in time, whether the notional was stored or skipped."""
    monkeypatch.setattr(reading_bars, "MOST_FOLDED_ROWS", most_rows)
    monkeypatch.setattr(reading_bars, "expected_rows", lambda *_: expected)
    monkeypatch.setattr(reading_bars, "folded", lambda *asked: None if large else folded(*asked))
    random = np.random.default_rng(5)
    times = FIRST_US + np.sort(random.integers(0, 600, 900)) * 1_000_000
    old = trade_rows(SYMBOL, range(500), times_us=times[:500], enriched=enriched)
    new = trade_rows(SYMBOL, range(500, 900), times_us=times[500:], enriched=enriched)
    commit(history, old)
    asked = BarsAsked(Selection(symbol=SYMBOL), MINUTE_US, 1_000)
    found = newest_bars(history.state(tail_of(new)), asked, cursor)
    assert found_bars(found) == plain_bars(old, new)


def test_the_newest_bars_are_kept_and_bounds_hold(history: History, cursor: Cursor) -> None:
    """A limit keeps the newest; a start inside a minute cuts that bar, not the ones after."""
    old, new = trade_rows(SYMBOL, range(500)), trade_rows(SYMBOL, range(500, 900))
    commit(history, old)
    state, everything = history.state(tail_of(new)), plain_bars(old, new)
    asked = BarsAsked(Selection(symbol=SYMBOL), MINUTE_US, 4)
    assert found_bars(newest_bars(state, asked, cursor)) == everything[-4:]
    times = Times(FIRST_US + 90_000_000, FIRST_US + 300_000_000)
    bounded = BarsAsked(Selection(symbol=SYMBOL, times=times), MINUTE_US, 100)
    found = found_bars(newest_bars(state, bounded, cursor))
    assert found == plain_bars(old.slice(90, 210))
    between = Times(FIRST_US + 1, FIRST_US + 1_000_000)
    for nothing in (Selection(symbol="NONE"), Selection(symbol=SYMBOL, times=between)):
        assert newest_bars(state, BarsAsked(nothing, MINUTE_US, 100), cursor).num_rows == 0


@pytest.mark.parametrize("first_band_rows", [3, 400])
def test_bars_of_more_rows_than_one_band_has(
    history: History, cursor: Cursor, monkeypatch: pytest.MonkeyPatch, first_band_rows: int
) -> None:
    """A bar takes its whole interval, so that the last band may be left with no file at all."""
    monkeypatch.setattr(reading_bars, "FIRST_BAND_ROWS", first_band_rows)
    commit(history, trade_rows(SYMBOL, range(500)))
    state = history.state(tail_of(trade_rows(SYMBOL, range(500, 900))))
    asked = BarsAsked(Selection(symbol=SYMBOL), 60 * MINUTE_US, 100)
    assert sum(newest_bars(state, asked, cursor)["trades"].to_pylist()) == 900


def test_a_notional_too_large_leaves_the_bar_without(history: History, cursor: Cursor) -> None:
    """Open, high, low, close and volume stand; notional and VWAP are left out, not wrong."""
    rows = trade_rows(SYMBOL, range(3))
    largest = pa.array([Decimal(10**16 - 1)] * 3, NUMBER)
    columns = [*rows.columns]
    for name in ("price", "quantity"):
        columns[rows.schema.get_field_index(name)] = largest
    columns[rows.schema.get_field_index("notional")] = pa.nulls(3, NOTIONAL)
    huge = pa.RecordBatch.from_arrays(columns, schema=rows.schema)
    commit(history, huge)
    asked = BarsAsked(Selection(symbol=SYMBOL), MINUTE_US, 10)
    bars = newest_bars(history.state(), asked, cursor)
    assert bars["without_notional"].to_pylist() == [3]
    assert len(bar_payloads(bars)) == 1
