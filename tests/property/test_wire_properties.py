from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from k2.market.v1 import market_pb2

from libs.market.errors import InvalidError
from libs.market.trade import Trade
from libs.wire.decimals import parse_decimal, parse_decimals
from libs.wire.framing import unframe
from libs.wire.notional import notional
from libs.wire.registry import SchemaRegistry
from libs.wire.schema import NUMBER, TRADE_SCHEMA, with_codes
from libs.wire.trades import (
    PROTO_TRADE_SCHEMA,
    Decoded,
    Reason,
    RejectedError,
    TradeDecoder,
    decode_trade,
    encode_trade,
    encode_trades,
    register_trades,
)
from tests.support.odd_trades import SCHEMA_ID, any_values, number_texts
from tests.support.wire import trades, trades_of

TOPIC = "market.crypto.trades.binance"


@pytest.fixture(scope="module")
def decoder() -> Iterator[TradeDecoder]:
    with TemporaryDirectory() as folder:
        registry = SchemaRegistry(Path(folder) / "schemas.json")
        assert register_trades(registry, TOPIC) == SCHEMA_ID
        yield TradeDecoder(registry)


@pytest.fixture(scope="module")
def coding() -> Iterator[TradeDecoder]:
    with TemporaryDirectory() as folder:
        registry = SchemaRegistry(Path(folder) / "schemas.json")
        register_trades(registry, TOPIC)
        yield TradeDecoder(registry, coded=True)


def decoded(decoder: TradeDecoder, values: Sequence[bytes | None]) -> Decoded:
    return decoder.decode(values, topic=TOPIC, partition=3, offsets=range(7, 7 + len(values)))


@given(st.lists(trades(), max_size=4))
def test_trades_come_back_from_protobuf_framing_and_arrow(
    decoder: TradeDecoder, sent: list[Trade]
) -> None:
    """What was framed row by row is decoded by the batch, every field equal, in order."""
    found = decoded(decoder, [encode_trade(trade, SCHEMA_ID) for trade in sent])

    assert found.rejected == ()
    assert found.batch.select(TRADE_SCHEMA.names).schema == TRADE_SCHEMA
    assert trades_of(found.batch) == sent
    assert found.batch["kafka_offset"].to_pylist() == list(range(7, 7 + len(sent)))
    assert set(found.batch["kafka_partition"].to_pylist()) <= {3}
    assert set(found.batch["kafka_topic"].to_pylist()) <= {TOPIC}
    found.batch.validate(full=True)


@given(st.lists(trades() | st.binary(max_size=20), max_size=6))
def test_codes_stand_for_what_is_decoded_without_them(
    decoder: TradeDecoder, coding: TradeDecoder, sent: list[Trade | bytes]
) -> None:
    """Cast back, every column is the same, and so is what is rejected."""
    values = [encode_trade(t, SCHEMA_ID) if isinstance(t, Trade) else t for t in sent]
    plain, coded = decoded(decoder, values), decoded(coding, values)

    assert coded.batch.schema == with_codes(TRADE_SCHEMA)
    assert coded.batch.cast(TRADE_SCHEMA).equals(plain.batch)
    assert coded.rejected == plain.rejected
    coded.batch.validate(full=True)


@given(st.lists(trades(), min_size=1, max_size=4))
def test_encoding_by_the_batch_says_what_encoding_by_the_row_says(sent: list[Trade]) -> None:
    """Both paths' values decode to the same trades, though map entries may change places."""
    batch = proto_rows([market_pb2.Trade.FromString(encode_trade(t, SCHEMA_ID)[6:]) for t in sent])

    assert [decode_trade(value) for value in encode_trades(batch, SCHEMA_ID)] == sent


def proto_rows(messages: Sequence[market_pb2.Trade]) -> pa.RecordBatch:
    columns = {
        name: [getattr(message, name) for message in messages] for name in PROTO_TRADE_SCHEMA.names
    }
    columns["source_sequence"] = [
        m.source_sequence if m.HasField("source_sequence") else None for m in messages
    ]
    columns["trade_conditions"] = [list(m.trade_conditions) for m in messages]
    columns["vendor_data"] = [list(m.vendor_data.items()) for m in messages]
    return pa.RecordBatch.from_pydict(columns, schema=PROTO_TRADE_SCHEMA)


def decoded_alone(value: bytes | None) -> Trade | Reason:
    try:
        if value and unframe(value)[0] != SCHEMA_ID:
            return Reason.UNKNOWN_SCHEMA
        return decode_trade(value)
    except RejectedError as error:
        return error.rejection


@given(st.lists(any_values, max_size=5))
def test_columns_and_rows_take_and_refuse_the_same(
    decoder: TradeDecoder, values: list[bytes | None]
) -> None:
    """The native path agrees with the Protobuf library's, whatever a record's neighbours are."""
    found = decoded(decoder, values)

    told = [decoded_alone(value) for value in values]
    expected = [trade for trade in told if isinstance(trade, Trade)]
    refused = {i: reason for i, reason in enumerate(told, start=7) if isinstance(reason, Reason)}
    assert trades_of(found.batch) == expected
    assert {rejected.offset: rejected.reason for rejected in found.rejected} == refused
    assert all(rejected.raw == (values[rejected.offset - 7] or b"") for rejected in found.rejected)


@given(st.lists(number_texts, max_size=5))
@example(["1e00005", "1.", ".5", "+1", "1" * 16 + "." + "9" * 12])
@example(["1e00005"])
@example(["+.5e-3"])
@example(["1E-51"])
@example(["0e33"])
def test_decimal_columns_parse_as_decimal_rows(texts: list[str]) -> None:
    """Text becomes decimal128(28, 12) exactly, or is refused, alone or among others."""
    numbers, refused = parse_decimals(pa.array(texts, pa.string()))

    for text, number, is_refused in zip(texts, numbers.to_pylist(), refused, strict=True):
        try:
            assert number == parse_decimal(text, field="price")
            assert not is_refused
        except InvalidError:
            assert is_refused


magnitudes = st.integers(0, 28).flatmap(lambda digits: st.integers(-(10**digits) + 1, 10**digits))
decimals = magnitudes.filter(lambda n: abs(n) < 10**28).map(lambda n: Decimal(n).scaleb(-12))
EXACTLY = Context(prec=80)


@given(st.lists(st.tuples(decimals | st.none(), decimals), max_size=6))
@example([(Decimal("0.000001"), Decimal("0.0000005"))])
@example([(Decimal("0.000003"), Decimal("0.0000005"))])
@example([(Decimal("9999999999999999"), Decimal("9999999999999999"))])
@example([(Decimal("9999999999999999"), Decimal("10000000000.000001"))])
def test_notional_is_the_exact_product_rounded_half_even(
    factors: list[tuple[Decimal | None, Decimal]],
) -> None:
    """Null where a factor is null or 38 digits do not hold it; one such row harms no other."""
    prices = pa.array([price for price, _ in factors], NUMBER)
    quantities = pa.array([quantity for _, quantity in factors], NUMBER)

    products = notional(prices, quantities).to_pylist()

    for (price, quantity), product in zip(factors, products, strict=True):
        exact = EXACTLY.multiply(price, quantity) if price is not None else None
        rounded = (
            exact.quantize(Decimal("1e-12"), ROUND_HALF_EVEN, EXACTLY)
            if exact is not None
            else None
        )
        fits = rounded is not None and rounded.copy_abs() < 10**26
        assert product == (rounded if fits else None)
