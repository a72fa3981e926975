"""The native loop takes what the other path takes, and says the same of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from k2.market.v1 import market_pb2

from libs.market.trade import DAY_US, EARLIEST_US, LATEST_RECEIPT_US, Trade
from libs.native.library import native
from libs.wire.framing import HEADER_BYTES, frame, header
from libs.wire.kernel import ENTRIES_A_ROW, SPARE_ENTRIES, take
from libs.wire.plain import REQUIRED_TEXTS, encode_trade
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import Decoded, Rows, TradeDecoder, register_trades
from tests.support.odd_trades import SCHEMA_ID, any_values, number_texts, rewritten_values, varint
from tests.support.wire import A_TRADE, a_trade

# As trades.c has it.
MOST_VENDOR_KEYS = 16

TOPIC = "market.crypto.trades.binance"

pytestmark = pytest.mark.skipif(native("k2_trades") is None, reason="nothing is compiled")


class ByColumn(TradeDecoder):
    """Decodes as where nothing is compiled."""

    def _taken(self, framed: pa.Array, *, enrich: bool) -> list[tuple[pa.RecordBatch, Rows]]:
        return []


Both = tuple[TradeDecoder, TradeDecoder]


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with TemporaryDirectory() as folder:
        registry = SchemaRegistry(Path(folder) / "schemas.json")
        assert register_trades(registry, TOPIC) == SCHEMA_ID
        yield TradeDecoder(registry, coded=True), ByColumn(registry, coded=True)


def decoded(
    decoder: TradeDecoder, values: Sequence[bytes | None] | pa.Array, *, enrich: bool = True
) -> Decoded:
    offsets = range(7, 7 + len(values))
    return decoder.decode(values, topic=TOPIC, partition=3, offsets=offsets, enrich=enrich)


def assert_alike(both: Both, values: Sequence[bytes | None], *, enrich: bool = True) -> None:
    natively, by_column = (decoded(decoder, values, enrich=enrich) for decoder in both)
    natively.batch.validate(full=True)
    assert natively.batch.schema == by_column.batch.schema
    assert natively.batch.to_pylist() == by_column.batch.to_pylist()
    assert natively.rejected == by_column.rejected


@given(st.lists(any_values, max_size=5), st.booleans())
def test_both_paths_agree_on_odd_and_broken_records(
    both: Both, values: list[bytes | None], enrich: bool
) -> None:
    """Rows, their order, and what is refused for which reason, with and without notional."""
    assert_alike(both, values, enrich=enrich)


A_VALUE = encode_trade(A_TRADE, SCHEMA_ID)
FRAMING = A_VALUE[:HEADER_BYTES]
TEXT_TAGS = b"\x0a\x1a\x22\x4a\x52\x5a\x6a"
ENTRIES = (
    b"\x0a\x01k\x12\x01v\x12\x01w",
    b"\x0a\x01k\x12\x01v\x18\x01",
    b"\x12\x01v\x0a\x01k",
    b"\x0a\x01k",
    b"",
)


@given(st.lists(rewritten_values(), min_size=1, max_size=3))
@example([FRAMING + bytes([tag, 1, 0xFF]) + A_VALUE[HEADER_BYTES:] for tag in TEXT_TAGS])
@example([A_VALUE + bytes([tag, 2, 0xC3, 0xA9]) for tag in TEXT_TAGS])
@example([A_VALUE + b"\x28" + b"\xff" * 9 + bytes([last]) for last in (0, 1, 2)])
@example([A_VALUE + bytes([tag, 1, 65]) for tag in range(256)])
@example([A_VALUE + bytes([tag, 1]) for tag in range(256)])
@example([A_VALUE + bytes([0x7A, len(entry)]) + entry for entry in ENTRIES])
def test_both_paths_agree_on_messages_written_otherwise(both: Both, values: list[bytes]) -> None:
    """Fields repeated, unknown or of another kind; varints too long; entries of no form."""
    assert_alike(both, values)


@given(st.lists(st.tuples(number_texts, number_texts), min_size=1, max_size=5))
@example([("1" * 17, "0.000001"), ("0.000001", "1" * 17), ("1.", "1"), ("1", "1.5x"), ("1", "0.0")])
@example([("0.000001001", "0.000498001999"), ("18446744.073709551615", "18446744.073709551615")])
@example([("0001.50", "0"), ("00000000000000001", "1"), ("1.0000000000001", "1")])
@example([("9" * 16 + "." + "9" * 12, "9" * 16 + "." + "9" * 12), ("0.000001", "0.0000005")])
@example([("4611686.018427387904", "4611686.018427387903"), ("0.000012", "99999999999.5")])
def test_both_paths_agree_on_numbers_of_every_form(
    both: Both, texts: list[tuple[str, str]]
) -> None:
    """Signs, spaces, exponents, leading zeros, too many digits, and products of every size."""
    assert_alike(both, [with_numbers(price, quantity) for price, quantity in texts])


def with_numbers(price: str, quantity: str) -> bytes:
    """Encode a trade with these texts, each once: another is not for the native loop."""
    return changed(price=price, quantity=quantity)


def changed(**fields: str | int) -> bytes:
    message = market_pb2.Trade.FromString(A_VALUE[HEADER_BYTES:])
    for name, value in fields.items():
        setattr(message, name, value)
    return frame(SCHEMA_ID, message.SerializeToString())


MOMENTS = (
    *(-(2**63), EARLIEST_US - 1, EARLIEST_US, EARLIEST_US + DAY_US, EARLIEST_US + DAY_US + 1),
    *(LATEST_RECEIPT_US - 1, LATEST_RECEIPT_US, 2**63 - 1),
)


def test_both_paths_agree_at_every_bound(both: Both) -> None:
    """Of both times, of enumerations and epochs; and where a required text is empty."""
    times = [
        changed(timestamp_us=traded, ingest_timestamp_us=received)
        for traded in MOMENTS
        for received in MOMENTS
    ]
    enumerations = [
        changed(**{name: number})
        for name in ("asset_class", "side", "origin")
        for number in range(-2, 7)
    ]
    epochs = [A_VALUE + b"\x30" + varint(number) for number in (2**31, 2**32, 2**64 - 1)]
    empty = [changed(**{name: ""}) for name in (*REQUIRED_TEXTS, "price", "quantity")]

    assert_alike(both, [A_VALUE, *times, *enumerations, *epochs, *empty])


def test_texts_that_begin_alike_are_told_apart(both: Both) -> None:
    """One after the other, the longer and the shorter first."""
    symbols = ("A", "AB", "A", "ABC", "AB", "ABC")
    vendor_data = [{"k": "1", "kk": "2", "": "3"}, {"kk": "1", "k": "2"}]
    assert_alike(both, [changed(symbol=symbol, trade_id=symbol) for symbol in symbols])
    assert_alike(both, [encode_trade(a_trade(vendor_data=each), SCHEMA_ID) for each in vendor_data])


@pytest.mark.parametrize(
    "changes",
    [
        {"vendor_data": {str(n): "v" for n in range(MOST_VENDOR_KEYS + 1)}},
        {"trade_conditions": ("@",) * (SPARE_ENTRIES + 2 * ENTRIES_A_ROW + 1)},
    ],
)
def test_what_there_is_no_room_for_is_left(both: Both, changes: dict[str, Any]) -> None:
    """The rows beside it are taken, and by the other path it is too."""
    values = [encode_trade(a_trade(**changes), SCHEMA_ID), A_VALUE]
    found = take(pa.array(values, pa.binary()), FRAMING, enrich=True)

    assert found is not None
    assert found.rows.tolist() == [1]
    assert_alike(both, values)


usual = st.builds(
    a_trade,
    symbol=st.sampled_from(["BTCUSDT", "ETHUSDT", "A", "B" * 40]),
    price=st.integers(1, 10**28 - 1).map(lambda unscaled: Decimal(unscaled).scaleb(-12)),
    quantity=st.sampled_from([Decimal("0.00000001"), Decimal("1"), Decimal("123456789.5")]),
    source_sequence=st.none() | st.integers(-(2**63), 2**63 - 1),
    trade_conditions=st.sampled_from([(), ("@",), ("@", "T")]),
    vendor_data=st.sampled_from([{}, {"E": "1"}, {"E": "1", "M": "true"}]),
)


@given(st.lists(usual, min_size=1, max_size=6))
def test_usual_trades_are_taken_natively(sent: list[Trade]) -> None:
    """All of them, and nothing that comes before them in the same columns is in the way."""
    values = pa.array([encode_trade(trade, SCHEMA_ID) for trade in sent], pa.binary())
    found = take(values, header(SCHEMA_ID), enrich=False)

    assert found is not None
    assert found.rows.tolist() == list(range(len(sent)))
    assert found.arrays["price"].to_pylist() == [trade.price for trade in sent]
    assert found.arrays["symbol"].to_pylist() == [trade.symbol for trade in sent]
    conditions = found.arrays["trade_conditions"].to_pylist()
    assert conditions == [list(trade.trade_conditions) for trade in sent]


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary_view()])
def test_values_may_begin_and_end_in_the_middle_of_an_array(both: Both, kind: pa.DataType) -> None:
    """A slice of either kind, with a null, a short value and values from two buffers."""
    trades = [encode_trade(a_trade(source_sequence=n), SCHEMA_ID) for n in range(4)]
    halves = [
        pa.array([trades[0], trades[1], None], kind),
        pa.array([b"\0", trades[2], trades[3]], kind),
    ]
    values = pa.concat_arrays(halves).slice(1, 4)

    found = decoded(both[0], values)

    assert found.batch["source_sequence"].to_pylist() == [1, 2]
    assert [rejected.offset for rejected in found.rejected] == [8, 9]


def test_many_symbols_keep_their_rows(both: Both) -> None:
    """More than a few values of a coded column, in any order."""
    values = [
        encode_trade(a_trade(symbol=f"S{n * 7 % 500}", currency=f"C{n % 3}"), SCHEMA_ID)
        for n in range(1_000)
    ]
    assert_alike(both, values)
