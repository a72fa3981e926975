"""What every generated session is, whatever its seed and size."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.simulator import truth
from tools.simulator.chunk import Form
from tools.simulator.generated import GeneratedSession, Plan
from tools.simulator.instruments import UNIT

plans = st.builds(
    Plan,
    seed=st.integers(0, 2**63),
    symbols=st.integers(1, 40),
    duration_s=st.floats(0.5, 5),
    rate=st.floats(10, 2_000),
    trades=st.integers(1, 1_000),
    book_ticker=st.booleans(),
    time_unit=st.sampled_from(["ms", "us"]),
)


def units(text: str) -> int:
    whole, decimals = text.split(".")
    assert len(decimals) == 8
    number: int = int(whole) * UNIT + int(decimals)
    return number


@settings(max_examples=10, deadline=None)
@given(plans)
def test_a_session_read_twice_gives_the_same_bytes(plan: Plan) -> None:
    """A plan fixes every byte, however often and by whomever it is read."""
    assert list(GeneratedSession(plan)) == list(GeneratedSession(plan))


@settings(max_examples=10, deadline=None)
@given(plans)
def test_trade_ids_of_a_symbol_have_no_hole(plan: Plan) -> None:
    """Ids rise by one, across chunks too, from the instrument's first."""
    session = GeneratedSession(plan)
    first = {i.symbol: i.first_trade_id for i in session.instruments}
    for symbol, trades in truth.expected(session).items():
        assert trades.first_id == first[symbol]
        assert trades.last_id - trades.first_id + 1 == trades.count


@settings(max_examples=10, deadline=None)
@given(plans)
def test_prices_and_sizes_lie_on_the_grid(plan: Plan) -> None:
    """A price is a whole number of ticks, a size of lots, and neither is zero."""
    session = GeneratedSession(plan)
    grid = {i.symbol: i for i in session.instruments}
    trades = truth.columns(session)
    for symbol, price, quantity in zip(trades.symbol, trades.price, trades.quantity, strict=True):
        assert units(price) > 0
        assert units(price) % grid[symbol].tick == 0
        assert units(quantity) >= grid[symbol].lot
        assert units(quantity) % grid[symbol].lot == 0


@settings(max_examples=10, deadline=None)
@given(plans)
def test_nothing_goes_back_in_time(plan: Plan) -> None:
    """Receive times never fall, nor do the trade times of a symbol, and none lies ahead."""
    session = GeneratedSession(plan)
    received = [line[0] for line in session]
    assert received == sorted(received)
    trades = truth.columns(session)
    for symbol in session.symbols:
        times = [t for s, t in zip(trades.symbol, trades.time_us, strict=True) if s == symbol]
        assert all(a <= b for a, b in pairwise(times))
    first_ns, last_ns = session.span_ns
    assert all(first_ns <= ns <= last_ns for ns in received)


@settings(max_examples=6, deadline=None)
@given(plans)
def test_a_limit_cuts_and_changes_nothing_before_it(plan: Plan) -> None:
    """A session limited in trades is the beginning of the one without the limit."""
    limited = list(GeneratedSession(plan))
    whole = GeneratedSession(replace(plan, trades=None))
    for expected, line in zip(whole, limited, strict=False):
        assert line == expected


@settings(max_examples=6, deadline=None)
@given(plans)
def test_every_form_tells_the_same(plan: Plan) -> None:
    """Raw is combined without its wrapper, and milliseconds are microseconds cut short."""
    for chunk in GeneratedSession(plan).chunks():
        forms = {
            (unit, combined): [
                msgspec.json.decode(m) for m in chunk.render(Form(unit, combined)).to_pylist()
            ]
            for unit in ("ms", "us")
            for combined in (True, False)
        }
        for unit in ("ms", "us"):
            assert [m["data"] for m in forms[unit, True]] == forms[unit, False]
        for coarse, fine in zip(forms["ms", False], forms["us", False], strict=True):
            for stamp in {"E", "T"} & set(coarse):
                assert coarse[stamp] == fine[stamp] // 1_000
                assert coarse["s"] == fine["s"]
