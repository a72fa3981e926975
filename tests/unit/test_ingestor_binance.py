"""Frames to columns."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from services.ingestor.parsing.binance import MAX_TRADE_BYTES, Parsed, parse
from tests.support.binance import (
    NOW_US,
    RECORDINGS,
    recorded_lines,
    stamps,
    table,
    trade_frame,
)
from tests.support.realdata import needs_realdata

TABLE = table("BTCUSDT", "ETHUSDT")


def parsed(*frames: bytes) -> Parsed:
    return parse(frames, stamps(len(frames)), TABLE)


def test_a_trade_becomes_a_row_digit_for_digit() -> None:
    """Prices keep the text the exchange printed; m means that the taker sold."""
    found = parsed(trade_frame(t=7, p="0.10000000", m=True), trade_frame("ETHUSDT", 8, m=False))
    assert not found.rejected
    assert found.trades.prices.to_pylist() == ["0.10000000", "61837.63000000"]
    assert found.trades.codes.tolist() == [0, 1]
    assert found.trades.ids.tolist() == [7, 8]
    assert found.trades.sold.tolist() == [True, False]
    assert found.trades.received_us.tolist() == [NOW_US, NOW_US + 1]


def test_milliseconds_and_microseconds_are_both_understood() -> None:
    """The size of a stamp tells its unit, whatever was asked for."""
    found = parsed(trade_frame(T=1_723_161_255_342), trade_frame(T=1_723_161_255_342_999))
    assert found.trades.times_us.tolist() == [1_723_161_255_342_000, 1_723_161_255_342_999]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "MALFORMED"),
        (b"\xff\xfe\x00", "MALFORMED"),
        (trade_frame()[:-9], "MALFORMED"),
        (b"[1,2]", "MALFORMED"),
        (b"{}", "MALFORMED"),
        (b'{"stream":"btcusdt@trade","data":7}', "MALFORMED"),
        (b'{"stream":"btcusdt@trade","data":{}}', "FIELD"),
        (trade_frame(p=None), "FIELD"),
        (trade_frame(p=61837.63), "FIELD"),
        (trade_frame(t="1"), "FIELD"),
        (trade_frame(t=-1), "FIELD"),
        (trade_frame(t=2**63), "FIELD"),
        (trade_frame(m="true"), "FIELD"),
        (trade_frame("DOGEUSDT"), "UNKNOWN_SYMBOL"),
        (trade_frame("btcusdt"), "UNKNOWN_SYMBOL"),
        (trade_frame(p="0.0000000000001"), "PRECISION"),
        (trade_frame(p="12345678901234567"), "PRECISION"),
        (trade_frame(q="0.00000000"), "PRECISION"),
        (trade_frame(q="-1"), "PRECISION"),
        (trade_frame(p="NaN"), "PRECISION"),
        (trade_frame(p="1_000"), "PRECISION"),
        (trade_frame(p=""), "PRECISION"),
        (trade_frame(T=0), "TIMESTAMP"),
        (trade_frame(T=1_823_161_255_342), "TIMESTAMP"),
        (trade_frame(x="y" * MAX_TRADE_BYTES), "OVERSIZED"),
    ],
)
def test_a_bad_frame_is_singled_out_and_the_rest_goes_on(frame: bytes, reason: str) -> None:
    """It keeps its bytes, its reason and its receive time; its neighbours are rows."""
    found = parsed(trade_frame(t=1), frame, trade_frame(t=2))
    assert [(r.raw, r.reason, r.received_us) for r in found.rejected] == [
        (frame, reason, NOW_US + 1)
    ]
    assert found.rejected[0].detail
    assert found.trades.ids.tolist() == [1, 2]


def test_the_largest_quantity_of_the_exchange_fits() -> None:
    """Binance's own maxQty needs more digits than decimal(18, 8) has."""
    found = parsed(
        trade_frame(q="92233720368.54775807"), trade_frame(q="9999999999999999.999999999999")
    )
    assert not found.rejected


def test_other_streams_are_ignored_and_counted() -> None:
    """A bookTicker has no event type, and a depthUpdate shares field names with a trade."""
    found = parsed(
        b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1","B":"2","a":"3"}}',
        b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate","s":"BTCUSDT","b":[["1","2"]]}}',
        trade_frame(),
    )
    assert (found.ignored, len(found.rejected), len(found.trades)) == (2, 0, 1)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
        b'{"e":"serverShutdown","E":1770123456789}',
    ],
)
def test_a_shutdown_notice_is_seen_among_trades(frame: bytes) -> None:
    """Both the combined and the raw form."""
    found = parsed(trade_frame(), frame)
    assert found.shutdown
    assert not found.rejected


def test_answers_to_requests_say_what_was_refused() -> None:
    """An error comes with or without the request's id."""
    found = parsed(
        b'{"result":null,"id":1}',
        b'{"code":2,"msg":"Invalid request: unknown property"}',
        b'{"error":{"code":3,"msg":"no"},"id":"x"}',
    )
    assert [(a.id, bool(a.error)) for a in found.answers] == [(1, False), (None, True), ("x", True)]
    assert not found.rejected


def test_nothing_becomes_nothing() -> None:
    """No frames, and frames without a trade, give columns without rows."""
    assert len(parsed().trades) == 0
    assert len(parsed(b"x").trades) == 0


def test_rows_can_be_taken_in_another_order() -> None:
    """Every column moves, Arrow's and numpy's."""
    found = parsed(*(trade_frame(t=t, q=f"{t}.5") for t in range(1, 5))).trades
    taken = found.take(np.array([3, 0]))
    assert taken.ids.tolist() == [4, 1]
    assert taken.quantities.equals(pa.array(["4.5", "1.5"]))


@needs_realdata
@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_sessions_parse_as_plain_json_does(name: str) -> None:
    """Every trade of a real capture, and nothing but the trades, in order."""
    lines = [(us, m) for us, m in recorded_lines(name) if b'"stream"' in m]
    received = np.array([us for us, _ in lines], np.int64)
    found = parse([m for _, m in lines], received, TABLE)
    expected = [json.loads(m)["data"] for _, m in lines if b"@trade" in m]
    assert not found.rejected
    assert found.ignored == len(lines) - len(expected)
    assert found.trades.ids.tolist() == [trade["t"] for trade in expected]
    assert found.trades.prices.to_pylist() == [trade["p"] for trade in expected]
    assert found.trades.quantities.to_pylist() == [trade["q"] for trade in expected]
    assert found.trades.times_us.tolist() == [trade["T"] * 1000 for trade in expected]
    assert found.trades.sold.tolist() == [trade["m"] for trade in expected]
