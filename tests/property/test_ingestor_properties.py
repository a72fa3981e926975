"""Parser and sequence check against the naive way."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation

from hypothesis import given
from hypothesis import strategies as st

from libs.market.errors import PrecisionError
from libs.market.trade import exact
from libs.wire.trades import decode_trade
from services.ingestor.exchange.frames import split
from services.ingestor.parsing.binance import parse
from services.ingestor.parsing.columns import TradeColumns
from services.ingestor.publishing.encoding import encode
from services.ingestor.publishing.sequence import SequenceCheck
from services.ingestor.publishing.symbol_sequence import Step
from tests.support.binance import stamps, table, trade_frame

TABLE = table("BTCUSDT", "ETHUSDT", "BNBBTC")
TIME_US = 1_723_161_255_342_000

prices = st.decimals(min_value=Decimal("1e-12"), max_value=10**16, places=12).map(
    lambda number: f"{number:f}"
)
trades = st.builds(
    trade_frame,
    symbol=st.sampled_from(TABLE.symbols),
    t=st.integers(0, 2**62),
    p=prices.filter(lambda text: 0 < Decimal(text) < 10**16),
    T=st.integers(1_500_000_000_000, 1_723_161_255_000)
    | st.integers(1_500_000_000_000_000, 1_723_161_255_000_000),
    m=st.booleans(),
    M=st.booleans(),
)
noise = st.binary(max_size=40) | trades.flatmap(
    lambda frame: st.integers(0, len(frame) - 1).map(lambda cut: frame[:cut])
)


@given(st.lists(trades | noise, max_size=40))
def test_a_burst_parses_as_each_frame_alone_does(frames: list[bytes]) -> None:
    """Whatever stands between them, every trade becomes its row and every other frame a letter."""
    expected = [json.loads(frame)["data"] for frame in frames if _is_trade(frame)]
    found = parse(frames, stamps(len(frames)), TABLE)
    assert found.trades.ids.tolist() == [trade["t"] for trade in expected]
    assert found.trades.prices.to_pylist() == [trade["p"] for trade in expected]
    assert [TABLE.symbols[code] for code in found.trades.codes] == [t["s"] for t in expected]
    assert [letter.raw for letter in found.rejected] == [f for f in frames if not _is_trade(f)]


@given(st.lists(trades, min_size=1, max_size=40))
def test_records_say_what_the_frames_said(frames: list[bytes]) -> None:
    """Through Arrow and Protobuf, in order within each partition."""
    received_us = stamps(len(frames))
    groups = list(encode(parse(frames, received_us, TABLE).trades, TABLE, schema_id=3))
    for group in groups:
        symbol = TABLE.symbols[group.partition]
        sent = [
            (us, json.loads(f)["data"]) for us, f in zip(received_us.tolist(), frames, strict=True)
        ]
        expected = [(us, trade) for us, trade in sent if trade["s"] == symbol]
        assert [key.decode() for key in group.keys] == [symbol] * len(expected)
        for value, (us, trade) in zip(group.values, expected, strict=True):
            record = decode_trade(value)
            stamp = trade["T"]
            assert record.symbol == symbol
            assert (record.source_sequence, record.trade_id) == (trade["t"], str(trade["t"]))
            assert record.timestamp_us == (stamp if stamp > 10**14 else stamp * 1000)
            assert record.ingest_timestamp_us == us
            assert str(record.price) == str(Decimal(trade["p"]))
            assert record.side == ("SELL" if trade["m"] else "BUY")
            assert dict(record.vendor_data) == {"E": str(trade["E"])} | (
                {} if trade["M"] else {"M": "false"}
            )
    assert sum(len(group.values) for group in groups) == len(frames)


@given(st.text("0123456789.-+eE_ ", max_size=34))
def test_a_price_is_taken_only_where_the_table_holds_it_exactly(text: str) -> None:
    """Never rounded, never guessed."""
    found = parse([trade_frame(p=text)], stamps(1), TABLE)
    if len(found.trades):
        assert exact(Decimal(text), field="p") > 0
    else:
        assert found.rejected[0].reason == "PRECISION"
        assert not _plainly_fits(text)


@given(st.data(), st.integers(1, 30))
def test_overlapping_connections_deliver_every_trade_once(data: st.DataObject, size: int) -> None:
    """Each carries a run of the same trades in order; however they interleave, the union comes."""
    starts = data.draw(st.lists(st.integers(0, size), min_size=1, max_size=3))
    queues = {n: list(range(start, size + 1)) for n, start in enumerate(starts)}
    check, kept = SequenceCheck(1), []
    while any(queues.values()):
        connection = data.draw(st.sampled_from([n for n, queue in queues.items() if queue]))
        count = data.draw(st.integers(1, len(queues[connection])))
        batch = _columns(queues[connection][:count])
        del queues[connection][:count]
        verdict = check.check(batch, connection)
        kept += batch.where(verdict.kept(len(batch))).ids.tolist()
    assert sorted(kept) == list(range(min(starts), size + 1))
    assert check.by_code[0].missing == 0


@given(st.lists(st.integers(0, 60), min_size=1, max_size=60), st.integers(1, 10))
def test_one_connection_loses_nothing_and_the_gaps_are_what_is_missing(
    ids: list[int], burst: int
) -> None:
    """Each id keeps its own time, so that none of them looks like a counter begun anew."""
    check, steps = SequenceCheck(1), 0
    for start in range(0, len(ids), burst):
        verdict = check.check(_columns(ids[start : start + burst]), 1)
        assert not verdict.drop
        steps += verdict.steps.get(Step.RESTART, 0)
    state = check.by_code[0]
    named = {id_ for gap in state.gaps for id_ in range(gap.first, gap.last + 1)}
    assert steps == 0
    assert named == set(range(min(ids), max(ids) + 1)) - set(ids)
    assert state.missing == len(named)
    assert state.trades == len(ids)


@given(st.lists(st.binary(max_size=200), max_size=12), st.lists(st.integers(1, 90), max_size=40))
def test_reads_of_any_size_bring_the_same_messages(payloads: list[bytes], sizes: list[int]) -> None:
    """Frames do not respect the reads of a socket."""
    wire = b"".join(_text(payload) for payload in payloads)
    found: list[bytes] = []
    rest = b""
    for size in [*sizes, len(wire)]:
        cut = split(rest + wire[:size])
        wire, rest = wire[size:], cut.rest
        found += cut.texts
    assert (found, rest) == (payloads, b"")


def _is_trade(frame: bytes) -> bool:
    try:
        return isinstance(json.loads(frame), dict)
    except ValueError:
        return False


def _plainly_fits(text: str) -> bool:
    try:
        return text.replace(".", "", 1).isdigit() and exact(Decimal(text), field="p") > 0
    except (PrecisionError, InvalidOperation):
        return False


def _columns(ids: list[int]) -> TradeColumns:
    rows = len(ids)
    return TradeColumns.build(
        codes=[0] * rows,
        ids=ids,
        prices=["1"] * rows,
        quantities=["1"] * rows,
        times=[TIME_US + id_ for id_ in ids],
        event_times=[0] * rows,
        sold=[True] * rows,
        best_match=[True] * rows,
        received_us=stamps(rows),
    )


def _text(payload: bytes) -> bytes:
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return b"\x81" + length + payload
