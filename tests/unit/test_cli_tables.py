"""Tables for people: whole, exact, and short where short is enough."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2.query.v1 import query_pb2
from rich.console import Console

from tools.cli.views.footnote import footnote, tell_lacks
from tools.cli.views.tables import cell, grid, plain_decimal, shares, show, table_of


def printed(columns: list[str], rows: list[list[object]], *, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(console, table_of(columns, rows, exact=False))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [20, 80, 200])
def test_nothing_is_clipped(width: int) -> None:
    """A screen too narrow makes lines run on; a digit left out would be another number."""
    shown = printed(["symbol", "price"], [["BTCUSDT", Decimal("61837.630000000001")]], width=width)
    assert "61837.630000000001" in shown
    assert "BTCUSDT" in shown
    assert "…" not in shown


TOPIC = "market.crypto.trades.binance"
HOLE = ["a gap", f"{TOPIC}/3 [12000, 45000)", "2026-11-21 21:11:14.734 to 21:11:15.982", 3_000]


@pytest.mark.parametrize("width", [50, 60, 120])
def test_words_go_on_below_where_the_screen_is_narrow(width: int) -> None:
    """Within it, every word whole, but for one as long as a topic's name."""
    shown = printed(["why", "what", "between", "records"], [HOLE], width=width)
    assert max(map(len, shown.splitlines())) <= width
    found = shown.split()
    assert {"gap", "45000)", "21:11:14.734", "3000"} <= set(found)
    assert "…" not in shown
    assert (f"{TOPIC}/3" in found) == (width > 50)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60)), min_size=1), st.integers(0, 200))
def test_room_is_shared_and_none_of_it_twice(wants: list[tuple[int, int]], more: int) -> None:
    """No column gets less than it needs, nor more than it wants, and no room is left unused."""
    least, most = [n for n, _ in wants], [n + further for n, further in wants]
    room = sum(least) + more
    given_to = shares(least, most, room)
    assert all(a <= w <= b for a, w, b in zip(least, given_to, most, strict=True))
    assert sum(given_to) == min(room, sum(most))


def test_times_are_as_short_as_they_are_exact() -> None:
    """Minutes where no time has seconds, seconds otherwise."""
    whole, odd = datetime(2024, 8, 9, 12, 30, tzinfo=UTC), datetime(2024, 8, 9, 12, 30, 5, 7, UTC)
    assert "12:30\n" in printed(["n", "time"], [["1", whole]], width=80).replace(" \n", "\n")
    assert "12:30:00" in printed(["n", "time"], [["1", whole], ["2", odd]], width=80)
    assert cell(odd) == "2024-08-09 12:30:05.000007"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("SELL", "[red]SELL[/]"),
        ([("E", "17"), ("a", "1")], "E=17, a=1"),
        (["X", "I"], "X, I"),
        (Decimal("1E+3"), "1000"),
        (5, "5"),
    ],
)
def test_cells(value: object, text: str) -> None:
    """As a reader of the market would write them."""
    assert cell(value) == text


def test_decimals_keep_every_digit_that_says_something() -> None:
    """No exponent, no zeros at the end, no bare point."""
    assert plain_decimal(Decimal("0.000000120000")) == "0.00000012"
    assert plain_decimal(Decimal("100")) == "100"


def test_an_empty_answer_still_has_its_columns() -> None:
    """So that one sees what would be there."""
    assert "symbol" in printed(["symbol", "price"], [], width=80)
    assert grid(["price"]).columns[0].justify == "right"


def test_a_follower_hears_what_it_lacks_and_when_it_lacks_no_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On stderr, beside the trades; nothing is said while nothing was missing."""
    hole = query_pb2.MissingRange(topic="t", partition=3, start=20, end=50, reason="SHED")
    lacking = query_pb2.Provenance(complete=False, lacks=[hole])
    whole = query_pb2.Provenance(complete=True)
    said = []
    for provenance, was_complete in ((whole, True), (lacking, True), (whole, False)):
        tell_lacks(provenance, was_complete=was_complete)
        said.append(capsys.readouterr())
    assert [heard.out for heard in said] == ["", "", ""]
    assert said[0].err == ""
    assert "t/3 [20, 50) SHED" in said[1].err
    assert "not complete" not in said[2].err
    assert "complete" in said[2].err


@pytest.mark.parametrize(("rows", "said"), [(0, "0 rows,"), (1, "1 row,"), (2, "2 rows,")])
def test_rows_are_counted_in_words(
    rows: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row is not "1 rows"."""
    footnote(rows, query_pb2.Provenance(complete=True))
    assert capsys.readouterr().err.startswith(said)
