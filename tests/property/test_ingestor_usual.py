"""Trades read a burst at once, against the JSON parser."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import example, given
from hypothesis import strategies as st

from libs.kafka.ready import ReadyBatch
from services.ingestor.exchange.frames import split
from services.ingestor.parsing import binance
from services.ingestor.parsing.columns import TradeColumns
from services.ingestor.parsing.texts import Texts, joined
from services.ingestor.parsing.usual import read_usual
from services.ingestor.parsing.validation import misfits
from services.ingestor.publishing.encoding import encode
from tests.support.binance import stamps, table, trade_frame

TABLE = table("BTCUSDT", "ETHUSDT", "BNBBTC", "1000SATSUSDT")

stamps_in_either_unit = st.integers(1_500_000_000_000, 1_723_161_255_000) | st.integers(
    1_500_000_000_000_000, 1_723_161_255_000_000
)
numbers = st.decimals(min_value=Decimal("1e-12"), max_value=10**15, places=12).map(
    lambda number: f"{number:f}"
)
trades = st.builds(
    trade_frame,
    symbol=st.sampled_from(TABLE.symbols),
    t=st.integers(1, 2**63 - 1),
    p=numbers,
    q=numbers,
    E=stamps_in_either_unit,
    T=stamps_in_either_unit,
    m=st.booleans(),
    M=st.booleans(),
)
ODD = (
    trade_frame(t=0),
    trade_frame(t=2**63),
    trade_frame(p="1,5"),
    trade_frame(p=""),
    trade_frame(p='1"'),
    trade_frame(s="NONESUCH"),
    trade_frame(s=","),
    trade_frame(extra=1),
    trade_frame(E=-1),
    trade_frame(m="true"),
    trade_frame().replace(b'"t":1', b'"t":01'),
    trade_frame().replace(b'"t":1', b'"t": 1'),
    trade_frame().replace(b'"t":1', b'"t":0x1'),
    trade_frame().replace(b'"t":1', b'"t":'),
    trade_frame().replace(b"btcusdt@", b"btc\\u0075sdt@"),
    trade_frame().replace(b"btcusdt@", b"ethusdt@"),
    trade_frame().replace(b'"p":"6', b'"p":"\xff'),
    trade_frame().replace(b"true}}", b"true} "),
    trade_frame().replace(b"true}}", b"true}}}"),
    trade_frame().replace(b"true}}", b"false}}").replace(b'"m":true', b'"m":null'),
    trade_frame()[:-1],
    b",,,,,,,,,",
    b"",
)


@given(st.lists(trades, min_size=1, max_size=20))
def test_usual_trades_are_read_as_json_is(frames: list[bytes]) -> None:
    """Every column, whatever the widths of the values."""
    found = read_usual(Texts.of(frames), stamps(len(frames)), TABLE)
    assert found is not None
    assert_same(found, decoded(frames))


@given(
    st.lists(trades, min_size=1, max_size=5),
    st.integers(0, 2_000),
    st.sampled_from(b'"{}[],:\\ 019aet\xff\x00') | st.integers(0, 255),
)
@example([trade_frame()], 52, ord('"'))
def test_a_changed_byte_never_makes_another_trade(frames: list[bytes], at: int, byte: int) -> None:
    """It is read as JSON reads it, or left to JSON."""
    at %= len(frames[0])
    frames = [frames[0][:at] + bytes([byte]) + frames[0][at + 1 :], *frames[1:]]
    assert_no_other_reading(frames)


@pytest.mark.parametrize("odd", ODD)
def test_what_is_not_usual_is_left_to_json(odd: bytes) -> None:
    """First, last and between others."""
    usual = trade_frame(t=7)
    for frames in ([odd], [odd, usual], [usual, odd], [usual, odd, usual]):
        assert_no_other_reading(frames)


def test_a_long_burst_goes_the_quick_way_and_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reads of a socket, found and put together, then parsed."""
    frames = [trade_frame(TABLE.symbols[t % 4], t, M=t % 3 > 0) for t in range(1, 801)]
    wire = b"".join(b"\x81\x7e" + len(f).to_bytes(2, "big") + f for f in frames)
    reads = [split(wire[: len(wire) // 2])]
    reads.append(split(reads[0].rest + wire[len(wire) // 2 :]))
    monkeypatch.setattr(binance, "_decode", lambda *_: pytest.fail("went the slow way"))
    burst = joined([read.texts for read in reads])
    found = binance.parse(burst, stamps(800), TABLE)
    monkeypatch.undo()
    assert list(burst) == frames
    assert_same(found.trades, decoded(frames))


def test_one_bad_frame_in_a_long_burst_is_named_alone() -> None:
    """With its own bytes and receive time, and the others are rows."""
    frames = [trade_frame(t=t) for t in range(1, 801)]
    frames[431] = trade_frame(p="not a price")
    found = binance.parse(Texts.of(frames), stamps(800), TABLE)
    (letter,) = found.rejected
    assert (letter.raw, letter.reason) == (frames[431], "PRECISION")
    assert letter.received_us == int(stamps(800)[431])
    assert found.trades.ids.tolist() == [t for t in range(1, 801) if t != 432]


def assert_no_other_reading(frames: list[bytes]) -> None:
    found = read_usual(Texts.of(frames), stamps(len(frames)), TABLE)
    if found is not None and not misfits(found, ()):
        assert_same(found, decoded(frames))


def decoded(frames: list[bytes]) -> TradeColumns:
    """Read frames of which each must be a trade, by JSON."""
    parsed = binance._decode(frames, stamps(len(frames)), TABLE)
    assert not parsed.rejected
    assert len(parsed.trades) == len(frames)
    return parsed.trades


def assert_same(found: TradeColumns, expected: TradeColumns) -> None:
    for column in fields(TradeColumns):
        ours, theirs = getattr(found, column.name), getattr(expected, column.name)
        if isinstance(theirs, pa.Array):
            assert ours.equals(theirs), column.name
        else:
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs), column.name


def test_many_trades_become_the_same_records_by_the_column() -> None:
    """What Kafka gets of a large burst is, record for record, what it gets of small ones."""
    frames = [trade_frame(TABLE.symbols[t % 4], t, M=t % 3 > 0) for t in range(1, 801)]
    trades_of_all = decoded(frames)
    together = list(encode(trades_of_all, TABLE, schema_id=3))
    for group in together:
        assert group.section is not None
        batch = MemoryRecords(ReadyBatch(group.section)._build()).next_batch()
        apart = [
            (key, value)
            for start in range(0, 800, 100)
            for part in encode(trades_of_all.take(np.arange(start, start + 100)), TABLE, 3)
            if part.section is None and part.partition == group.partition
            for key, value in zip(part.keys, part.values, strict=True)
        ]
        assert [(record.key, record.value) for record in batch] == apart
        assert list(zip(group.keys, group.values, strict=True)) == apart
    assert sum(len(group.values) for group in together) == 800
