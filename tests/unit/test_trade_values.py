from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from k2.market.v1 import market_pb2

from libs.market.trade import AssetClass, Origin, Side
from libs.wire.framing import frame
from libs.wire.notional import notional
from libs.wire.plain import ASSET_CLASSES, ORIGINS, SIDES
from libs.wire.registry import SchemaRegistry
from libs.wire.schema import TRADE_SCHEMA
from libs.wire.trades import (
    Reason,
    RejectedError,
    TradeDecoder,
    decode_trade,
    encode_trade,
    encode_trades,
    proto_batch,
    register_trades,
)
from tests.support.wire import a_trade, trades_of


@pytest.fixture
def decoder(tmp_path: Path) -> TradeDecoder:
    registry = SchemaRegistry(tmp_path / "schemas.json")
    register_trades(registry, "t")
    return TradeDecoder(registry)


def changed(**fields: object) -> bytes:
    message = market_pb2.Trade.FromString(encode_trade(a_trade(), 1)[6:])
    for name, value in fields.items():
        setattr(message, name, value)
    return frame(1, message.SerializeToString())


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, Reason.EMPTY, "the record has no value"),
        (b"", Reason.EMPTY, "the record has no value"),
        (frame(1, b""), Reason.EMPTY, "the message is empty"),
        (b"\x00\x00", Reason.FRAMING, "2 bytes are too few for a header of 6"),
        (b"\x01" + changed()[1:], Reason.FRAMING, "header 010000000100 is not 00, schema id, 00"),
        (frame(7, changed()[6:]), Reason.UNKNOWN_SCHEMA, "schema id 7 is of no trade"),
        (changed()[:-3], Reason.UNDECODABLE, "Wire format was corrupt"),
        (changed(symbol=""), Reason.FIELD, "symbol is empty"),
        (changed(side=9), Reason.FIELD, "side 9 has no meaning"),
        (changed(asset_class=0), Reason.FIELD, "asset_class 0 has no meaning"),
        (changed(price="free"), Reason.FIELD, "price 'free' is not a decimal number"),
        (changed(price="0.000"), Reason.FIELD, "price 0.000 is not above 0"),
        (changed(quantity="-1"), Reason.FIELD, "quantity -1 is not above 0"),
        (changed(price="0.1234567890123"), Reason.PRECISION, "more than 12 decimals"),
        (changed(quantity="1" + "0" * 16), Reason.PRECISION, "16 integer digits"),
        (changed(timestamp_us=1), Reason.TIMESTAMP, "traded at 1 us, before 2000"),
        (changed(ingest_timestamp_us=0), Reason.TIMESTAMP, "received at 0 us"),
    ],
)
def test_a_record_that_is_no_trade_says_why_and_the_rest_goes_on(
    decoder: TradeDecoder, value: bytes | None, reason: Reason, detail: str
) -> None:
    """Its neighbours are decoded, and its bytes are kept."""
    good = encode_trade(a_trade(), 1)

    found = decoder.decode([good, value, good], topic="t", partition=0, offsets=[5, 7, 8])

    assert found.batch["kafka_offset"].to_pylist() == [5, 8]
    (rejected,) = found.rejected
    assert (rejected.offset, rejected.reason, rejected.raw) == (7, reason, value or b"")
    assert detail in rejected.detail


def test_trailing_zeros_beyond_the_twelfth_decimal_are_exact(decoder: TradeDecoder) -> None:
    """A number is refused for digits, not for zeros."""
    values = [changed(price="1.5" + "0" * zeros) for zeros in (12, 36, 37, 38, 50, 60)]

    found = decoder.decode(values, topic="t", partition=0, offsets=range(6))

    assert found.batch["price"].to_pylist() == [Decimal("1.5")] * 6


def test_a_repeated_key_of_vendor_data_keeps_its_last_value(decoder: TradeDecoder) -> None:
    """As Protobuf says, whatever order the bytes have."""
    entries = [b"\x7a\x06\x0a\x01k\x12\x01" + value for value in (b"a", b"b")]
    value = encode_trade(a_trade(), 1) + b"".join(entries)

    found = decoder.decode([value], topic="t", partition=0, offsets=[0])

    assert trades_of(found.batch) == [decode_trade(value)] == [a_trade(vendor_data={"k": "b"})]


def test_without_enrichment_notional_is_null_and_can_be_derived(decoder: TradeDecoder) -> None:
    """What a level skips, a query computes to the same value."""
    values = [encode_trade(a_trade(), 1)]
    plain = decoder.decode(values, topic="t", partition=0, offsets=[0], enrich=False).batch
    enriched = decoder.decode(values, topic="t", partition=0, offsets=[0]).batch

    assert plain["notional"].to_pylist() == [None]
    assert enriched["notional"].to_pylist() == [Decimal("143.580025000000")]
    assert notional(plain["price"], plain["quantity"]) == enriched["notional"]
    assert plain.drop_columns(["notional"]) == enriched.drop_columns(["notional"])


def test_a_product_that_does_not_fit_is_null_and_its_row_stays(decoder: TradeDecoder) -> None:
    """16 integer digits times 16 need 32, and notional has 26."""
    large = a_trade(price=Decimal(10**15), quantity=Decimal(10**15))
    values = [encode_trade(large, 1), encode_trade(a_trade(), 1)]

    found = decoder.decode(values, topic="t", partition=0, offsets=[0, 1])

    assert found.batch["notional"].to_pylist() == [None, Decimal("143.580025000000")]


def test_a_chunk_as_one_arrow_array_decodes_like_a_list(decoder: TradeDecoder) -> None:
    """A reader that slices record batches natively need not make Python bytes."""
    values = [encode_trade(a_trade(source_sequence=n), 1) for n in range(5)]
    array = pa.array([b"before", *values, None], pa.binary()).slice(1, 5)

    from_array = decoder.decode(array, topic="t", partition=0, offsets=range(5))

    assert from_array == decoder.decode(values, topic="t", partition=0, offsets=range(5))


def test_no_records_make_an_empty_batch(decoder: TradeDecoder) -> None:
    """Of a trade's own columns."""
    found = decoder.decode([], topic="t", partition=0, offsets=[])

    assert found.batch.num_rows == 0
    assert found.batch.schema == TRADE_SCHEMA


def test_columns_and_constants_become_values() -> None:
    """What an ingestor has by column, and what is the same in every row, make whole trades."""
    batch = proto_batch(
        {
            "symbol": ["BTCUSDT", "ETHUSDT"],
            "trade_id": ["1", "2"],
            "source_sequence": [1, None],
            "timestamp_us": [a_trade().timestamp_us] * 2,
            "ingest_timestamp_us": [a_trade().ingest_timestamp_us] * 2,
            "price": ["1.50", "2"],
            "quantity": ["3", "4"],
            "side": [1, 2],
        },
        {
            "exchange": "BINANCE",
            "asset_class": AssetClass.CRYPTO,
            "currency": "USDT",
            "origin": Origin.STREAM,
        },
    )

    first, second = map(decode_trade, encode_trades(batch, 1))

    numbers = {"price": Decimal("1.5"), "quantity": Decimal(3)}
    assert first == a_trade(trade_id="1", source_sequence=1, **numbers)
    assert (second.symbol, second.side, second.source_sequence) == ("ETHUSDT", Side.SELL, None)


def test_enumerations_have_the_numbers_of_the_idl() -> None:
    """Our names stand at the places where the IDL numbers them."""
    for prefix, names, enum in (
        ("ASSET_CLASS_", ASSET_CLASSES, market_pb2.AssetClass),
        ("SIDE_", SIDES, market_pb2.Side),
        ("ORIGIN_", ORIGINS, market_pb2.Origin),
    ):
        spelled = [prefix + (name or "UNSPECIFIED") for name in names]
        assert spelled == sorted(enum.keys(), key=enum.Value)


def test_the_plain_path_knows_no_registry() -> None:
    """A single row decodes whatever its schema id."""
    assert decode_trade(encode_trade(a_trade(), 123)) == a_trade()
    with pytest.raises(RejectedError, match="the record has no value"):
        decode_trade(None)
