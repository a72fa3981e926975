"""The exchange's protocol without sockets: requests, limits, faults, pace, frames."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as ReferenceFrame
from websockets.frames import Opcode

from libs.market.errors import InvalidError
from tests.support.clock import ManualClock
from tools.simulator.connection import IncomingLimit, PongWatch
from tools.simulator.control import MOST_STREAMS, Subscriptions
from tools.simulator.encoding import decimal_text, framed
from tools.simulator.faults import Fault, FaultPlan, alter, parse
from tools.simulator.history import History
from tools.simulator.session import generated
from tools.simulator.timeline import Timeline, parse_pace
from tools.simulator.weights import WeightBudget


def raw() -> Subscriptions:
    return Subscriptions.of(["btcusdt@trade"], combined=False, time_unit="ms")


def ask(subscriptions: Subscriptions, request: object) -> object:
    return msgspec.json.decode(subscriptions.answer(msgspec.json.encode(request)))


def test_streams_are_subscribed_listed_and_left() -> None:
    """SUBSCRIBE adds, LIST_SUBSCRIPTIONS tells, UNSUBSCRIBE removes."""
    subscriptions = raw()
    wish = {"method": "SUBSCRIBE", "params": ["ethusdt@trade", "btcusdt@trade"], "id": 1}
    assert ask(subscriptions, wish) == {"result": None, "id": 1}
    listed = ask(subscriptions, {"method": "LIST_SUBSCRIPTIONS", "id": "a1"})
    assert listed == {"result": ["btcusdt@trade", "ethusdt@trade"], "id": "a1"}
    leave = {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": None}
    assert ask(subscriptions, leave) == {"result": None, "id": None}
    assert list(subscriptions.streams) == ["ethusdt@trade"]


def test_combined_is_a_property() -> None:
    """SET_PROPERTY turns the wrapper on, GET_PROPERTY tells whether it is."""
    subscriptions = raw()
    assert ask(subscriptions, {"method": "GET_PROPERTY", "params": ["combined"], "id": 1}) == {
        "result": False,
        "id": 1,
    }
    ask(subscriptions, {"method": "SET_PROPERTY", "params": ["combined", True], "id": 2})
    assert subscriptions.form.combined


@pytest.mark.parametrize(
    ("request_text", "code", "start"),
    [
        (b"{", 3, "Invalid JSON"),
        (b"[1]", 2, "Invalid request: expected an object"),
        (b'{"id":1}', 2, "Invalid request: missing field `method`"),
        (b'{"method":"BUY","id":1}', 2, "Invalid request: unknown variant `BUY`"),
        (b'{"method":"SUBSCRIBE","params":["x"],"id":1.5}', 2, "Invalid request: request ID"),
        (b'{"method":"SUBSCRIBE","params":["x"],"id":"a-b"}', 2, "Invalid request: request ID"),
        (b'{"method":"SUBSCRIBE","params":[],"id":1}', 2, "Invalid request: params"),
        (b'{"method":"SUBSCRIBE","params":"x","id":1}', 2, "Invalid request: params"),
        (b'{"method":"GET_PROPERTY","params":["color"],"id":1}', 0, "Unknown property"),
        (b'{"method":"GET_PROPERTY","params":[1],"id":1}', 2, "Invalid request: property name"),
        (b'{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "Invalid value type"),
        (b'{"method":"GET_PROPERTY","params":["a","b"],"id":1}', 2, "Invalid request: too many"),
    ],
)
def test_a_bad_request_is_answered_with_code_and_sentence(
    request_text: bytes, code: int, start: str
) -> None:
    """Every mistake has the exchange's code, and the connection's streams stay as they are."""
    subscriptions = raw()
    answer = msgspec.json.decode(subscriptions.answer(request_text))
    assert answer["code"] == code
    assert answer["msg"].startswith(start)
    assert list(subscriptions.streams) == ["btcusdt@trade"]


def test_a_connection_has_at_most_1024_streams() -> None:
    """One more is refused as a whole."""
    subscriptions = raw()
    names = [f"s{i}@trade" for i in range(MOST_STREAMS)]
    answer = ask(subscriptions, {"method": "SUBSCRIBE", "params": names, "id": 1})
    assert isinstance(answer, dict)
    assert answer["code"] == 2
    assert len(subscriptions.streams) == 1


def test_the_sixth_message_in_a_second_is_too_many() -> None:
    """Five are allowed in any second, not in each."""
    limit = IncomingLimit()
    assert [limit.allows(0.1 * i) for i in range(6)] == [True] * 5 + [False]
    assert limit.allows(1.7)


def test_only_the_pong_that_copies_a_ping_keeps_alive() -> None:
    """An unsolicited pong does not count; a later ping's answers those before."""
    watch = PongWatch(within_s=60)
    watch.pinged(b"1", 0)
    watch.pinged(b"2", 20)
    assert not watch.ponged(b"something")
    assert watch.is_dead(60.1)
    assert watch.ponged(b"2")
    assert not watch.is_dead(1_000)


def test_weights_lead_to_429_then_to_a_ban() -> None:
    """Over the limit: 429 until the minute is over; who goes on regardless is banned."""
    clock = ManualClock(now_us=30_000_000)
    budget = WeightBudget(limit=50, refusals_before_ban=2, ban_s=120)

    def spend() -> tuple[int, int]:
        verdict = budget.spend("me", 25, clock.now_us() / 1e6)
        return verdict.status, verdict.retry_after_s

    assert [spend() for _ in range(5)] == [(200, 0), (200, 0), (429, 30), (429, 30), (418, 120)]
    clock.advance(60)
    assert spend() == (418, 60)
    clock.advance(60)
    assert spend() == (200, 0)
    assert budget.spend("you", 25, clock.now_us() / 1e6).used == 25


@given(st.lists(st.binary(max_size=300) | st.sampled_from([b"x" * 65_535, b"x" * 65_536])))
def test_frames_are_as_the_rfc_has_them(messages: list[bytes]) -> None:
    """Frames equal those of an independent implementation, at every length's border."""
    expected = [ReferenceFrame(Opcode.TEXT, m).serialize(mask=False) for m in messages]
    assert framed(pa.array(messages, pa.binary())).to_pylist() == expected


@given(st.lists(st.integers(0, 2**62)))
def test_decimals_have_eight_places(numbers: list[int]) -> None:
    """Whole numbers of 1e-8 are printed as the exchange prints them."""
    texts = decimal_text(np.array(numbers, dtype=np.int64)).to_pylist()
    assert texts == [f"{n // 10**8}.{n % 10**8:08d}" for n in numbers]


def test_a_pace_scales_time_and_a_pause_stops_it() -> None:
    """At pace 10 a second of the session takes a tenth; after a pause it goes on from there."""
    received = np.array([0, 10, 20], dtype=np.int64) * 1_000_000_000
    timeline = Timeline(10.0)
    timeline.anchor(0, 100.0)
    assert timeline.due_until(received, 100.5) == 1
    assert timeline.due_until(received, 101.0) == 2
    assert timeline.wait_s(int(received[2]), 101.5) == pytest.approx(0.5)
    timeline.anchor(int(received[1]), 500.0)
    assert timeline.due_until(received, 500.9) == 2
    assert Timeline(math.inf).due_until(received, 0.0) == 3


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan"])
def test_a_pace_is_positive_or_max(text: str) -> None:
    """Anything else is refused by name."""
    with pytest.raises(InvalidError, match="pace"):
        parse_pace(text)
    assert math.isinf(parse_pace("max"))


def test_faults_are_typed_as_kind_and_options() -> None:
    """The command line's faults equal those posted as JSON."""
    assert parse("drop") == Fault("drop")
    assert parse("skip:at=10,count=3,symbol=BTCUSDT") == Fault(
        "skip", 10, count=3, symbol="BTCUSDT"
    )
    with pytest.raises(InvalidError, match="no fault"):
        parse("explode")
    with pytest.raises(InvalidError, match="no fault"):
        parse("skip:colour=red")


def test_a_fault_is_due_once_and_again_where_it_says_every() -> None:
    """Wishes wait for their number of trades; `every` asks again that much later."""
    plan = FaultPlan([Fault("drop", at=5), Fault("skip", at=10, every=10)])
    assert plan.next_at() == 5
    assert [f.kind for f in plan.take_due(5)] == ["drop"]
    assert [f.kind for f in plan.take_due(12)] == ["skip"]
    assert plan.next_at() == 22


def test_skips_and_duplicates_touch_what_they_say() -> None:
    """The first trades of the symbol are left out or doubled; what is lacking stays wished."""
    session = generated(1, symbols=2, trades=500)
    chunk = next(session.chunks())
    order = np.arange(10, 60)
    eth = int(np.count_nonzero(chunk.trades.symbol[10:60] == 1))
    skipped = alter(Fault("skip", count=2), order, chunk.trades, session.symbols)
    assert skipped.order.tolist() == list(range(12, 60))
    doubled = alter(
        Fault("duplicate", count=eth + 3, symbol="ETHUSDT"), order, chunk.trades, session.symbols
    )
    assert len(doubled.order) == 50 + eth
    assert doubled.missing == 3
    assert set(chunk.trades.symbol[doubled.touched].tolist()) == {1}


def test_history_serves_what_has_passed_and_forgets_the_oldest() -> None:
    """Nothing of the future is served, ids are found across chunks, and memory is bounded."""
    session = generated(1, symbols=2, duration_s=200, rate=500)
    history = History(session.symbols, most_trades=20_000)
    for chunk in session.chunks():
        history.begin(chunk.trades)
        assert (
            not list(history.from_id("BTCUSDT", history.totals["BTCUSDT"].last_id + 1))
            if (history.totals)
            else True
        )
        history.advance(len(chunk.trades) // 2)
        history.advance(len(chunk.trades))
    totals = history.totals["BTCUSDT"]
    assert totals.trades == totals.last_id - totals.first_id + 1
    newest = history.newest("BTCUSDT", 1_000)
    assert [t.trade_id for t in newest] == list(range(totals.last_id - 999, totals.last_id + 1))
    assert list(history.from_id("BTCUSDT", newest[0].trade_id)) == newest
    assert history.kept <= 20_000
    assert next(history.from_id("BTCUSDT", 0)).trade_id > totals.first_id


def test_aggregates_are_runs_of_one_time_price_and_side() -> None:
    """Aggregate ids rise by one, and a run shares what an aggregate trade has one of."""
    session = generated(1, symbols=3, trades=5_000)
    history = History(session.symbols)
    for chunk in session.chunks():
        history.begin(chunk.trades)
        history.advance(len(chunk.trades))
    trades = list(history.from_id("ETHUSDT", 0))
    for before, after in pairwise(trades):
        same = [(t.time_us, t.price, t.is_buyer_maker) for t in (before, after)]
        assert after.aggregate - before.aggregate == (same[0] != same[1])
