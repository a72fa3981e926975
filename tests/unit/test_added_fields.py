from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from libs.wire.added import added_fields
from libs.wire.compatibility import IncompatibleSchemaError
from libs.wire.registry import SchemaRegistry, subject_of
from libs.wire.rejection import Reason
from libs.wire.schema import TRADE_SCHEMA
from libs.wire.trades import TradeDecoder, encode_trade
from services.writer.commits.reencoding import Reencoder
from tests.support.schemas import (
    FEE_TICKS,
    LIQUIDITY,
    Encoder,
    Label,
    NewField,
    Type,
    trade_with,
)
from tests.support.wire import a_trade, trades_of

TOPIC = "market.crypto.trades.binance"
SUBJECT = subject_of(TOPIC)


@pytest.fixture
def registry(tmp_path: Path) -> SchemaRegistry:
    return SchemaRegistry(tmp_path / "schemas.json")


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        (Type.TYPE_STRING, pa.string()),
        (Type.TYPE_BYTES, pa.binary()),
        (Type.TYPE_BOOL, pa.bool_()),
        (Type.TYPE_INT32, pa.int32()),
        (Type.TYPE_SINT64, pa.int64()),
        (Type.TYPE_UINT32, pa.int64()),
        (Type.TYPE_DOUBLE, pa.float64()),
    ],
)
def test_a_field_becomes_a_column(kind: Type.ValueType, column: pa.DataType) -> None:
    """Each of Protobuf's plain types has one that holds all its values."""
    (found,) = added_fields([], trade_with(NewField("venue_note", 16, kind)))
    assert (found.name, found.type) == ("venue_note", column)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (NewField("x", 16, Type.TYPE_UINT64), "Trade.x = 16 is uint64, which no column holds"),
        (
            NewField("x", 16, Type.TYPE_INT32, repeated=True),
            "Trade.x = 16 is repeated int32, which no column holds",
        ),
        (
            NewField("x", 16, Type.TYPE_MESSAGE, type_name=".k2.market.v1.Trade"),
            "Trade.x = 16 is k2.market.v1.Trade, which no column holds",
        ),
        (
            NewField("x", 16, Type.TYPE_ENUM, type_name=".other.Color"),
            "Trade.x = 16 is other.Color, which no column holds",
        ),
        (
            NewField("Notional", 16, Type.TYPE_STRING),
            "Trade.Notional = 16 takes the name of a column of K2's own",
        ),
        (
            NewField("message_id", 16, Type.TYPE_STRING),
            "Trade.message_id = 16 takes the name of a column of K2's own",
        ),
        (NewField("x" * 65, 16, Type.TYPE_STRING), "has a name longer than 64 characters"),
    ],
)
def test_a_field_without_a_column_is_refused_by_name(
    registry: SchemaRegistry, field: NewField, reason: str
) -> None:
    """The registry does not take the schema, and says which field and type it is."""
    registry.register(SUBJECT, trade_with())
    with pytest.raises(IncompatibleSchemaError, match=reason):
        registry.register(SUBJECT, trade_with(field))


def test_an_import_is_refused(registry: SchemaRegistry) -> None:
    """Whoever reads a record has its schema and no other file."""
    schema = trade_with()
    schema.dependency.append("google/protobuf/timestamp.proto")
    with pytest.raises(IncompatibleSchemaError, match="it imports google/protobuf"):
        registry.register(SUBJECT, schema)


def test_a_number_is_one_column_in_all_topics(registry: SchemaRegistry) -> None:
    """All topics feed one table: another exchange's field 16 is of the same type, or refused."""
    registry.register(SUBJECT, trade_with(LIQUIDITY))
    with pytest.raises(IncompatibleSchemaError, match="fee = 16 is double, and its column liq"):
        registry.register("kraken-value", trade_with(NewField("fee", 16, Type.TYPE_DOUBLE)))
    with pytest.raises(IncompatibleSchemaError, match="Liquidity = 17 takes the name of field 16"):
        registry.register("kraken-value", trade_with(NewField("Liquidity", 17, Type.TYPE_STRING)))


def test_a_removed_number_is_not_given_to_another_field(registry: SchemaRegistry) -> None:
    """Confluent's BACKWARD looks at the latest version alone; old data would change its meaning."""
    registry.register(SUBJECT, trade_with(LIQUIDITY))
    registry.register(SUBJECT, trade_with())
    with pytest.raises(
        IncompatibleSchemaError, match="broker = 16 takes the number of liquidity, which was remov"
    ):
        registry.register(SUBJECT, trade_with(NewField("broker", 16, Type.TYPE_STRING)))
    assert registry.register(SUBJECT, trade_with(LIQUIDITY))


def without(schema: FileDescriptorProto, number: int) -> FileDescriptorProto:
    kept = [field for field in schema.message_type[0].field if field.number != number]
    del schema.message_type[0].field[:]
    schema.message_type[0].field.extend(kept)
    return schema


def retyped(number: int, kind: Type.ValueType) -> FileDescriptorProto:
    schema = trade_with()
    schema.message_type[0].field[number - 1].type = kind
    return schema


def moved(name: str, number: int) -> FileDescriptorProto:
    schema = trade_with(LIQUIDITY)
    next(f for f in schema.message_type[0].field if f.name == name).number = number
    return schema


def required() -> FileDescriptorProto:
    schema = trade_with(NewField("venue", 18, Type.TYPE_STRING, optional=False))
    schema.message_type[0].field[-1].label = Label.LABEL_REQUIRED
    return schema


def side_swapped() -> FileDescriptorProto:
    schema = trade_with()
    side = next(enum for enum in schema.enum_type if enum.name == "Side")
    side.value[1].name, side.value[2].name = side.value[2].name, side.value[1].name
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (retyped(9, Type.TYPE_DOUBLE), "price = 9 changes its type or label: it was string"),
        (retyped(9, Type.TYPE_BYTES), "Trade.price = 9 is bytes, and K2 reads string"),
        (retyped(6, Type.TYPE_INT64), "sequence_epoch = 6 is int64, and K2 reads int32"),
        (without(trade_with(), 3), "Trade.symbol = 3 is gone, and a trade needs it"),
        (moved("liquidity", 20), "Trade.liquidity = 20 had number 16"),
        (required(), "Trade.venue = 18 is required, and older data does not have it"),
        (side_swapped(), "Side 1 was SIDE_BUY and would be SIDE_SELL"),
    ],
    ids=["type", "widened own", "widened own int", "gone", "moved", "required", "enum"],
)
def test_each_rule_names_its_field(
    registry: SchemaRegistry, schema: FileDescriptorProto, reason: str
) -> None:
    """The registry refuses, and what is registered already stays as it was."""
    known = registry.register(SUBJECT, trade_with(LIQUIDITY))
    with pytest.raises(IncompatibleSchemaError, match=reason):
        registry.register(SUBJECT, schema)
    assert registry.register(SUBJECT, trade_with(LIQUIDITY)) == known


def decode_all(
    registry: SchemaRegistry, values: list[bytes]
) -> tuple[pa.RecordBatch, list[Reason]]:
    found = TradeDecoder(registry).decode(
        values, topic=TOPIC, partition=3, offsets=range(len(values))
    )
    return found.batch, [bad.reason for bad in found.rejected]


def test_old_and_new_producers_side_by_side(registry: SchemaRegistry) -> None:
    """Rows of an older schema have null where a newer one's rows have the added columns."""
    ids = [
        registry.register(SUBJECT, schema)
        for schema in (trade_with(), trade_with(LIQUIDITY), trade_with(LIQUIDITY, FEE_TICKS))
    ]
    one, two = (
        Encoder(trade_with(LIQUIDITY), ids[1]),
        Encoder(trade_with(LIQUIDITY, FEE_TICKS), ids[2]),
    )
    sent = [a_trade(source_sequence=n) for n in range(5)]
    batch, reasons = decode_all(
        registry,
        [
            two.value(sent[0], {"liquidity": "MAKER", "fee_ticks": 5}),
            encode_trade(sent[1], ids[0]),
            one.value(sent[2], {"liquidity": "TAKER"}),
            two.value(sent[3], {"fee_ticks": 0}),
            encode_trade(sent[4], ids[0]),
        ],
    )
    assert reasons == []
    assert trades_of(batch.select(TRADE_SCHEMA.names)) == sent
    assert batch.schema.names == [*TRADE_SCHEMA.names, "liquidity", "fee_ticks"]
    assert batch["liquidity"].to_pylist() == ["MAKER", None, "TAKER", None, None]
    assert batch["fee_ticks"].to_pylist() == [5, None, None, 0, None]


def test_a_batch_of_one_old_schema_is_as_before(registry: SchemaRegistry) -> None:
    """Nothing is added for records that do not have it."""
    old = registry.register(SUBJECT, trade_with())
    registry.register(SUBJECT, trade_with(LIQUIDITY))
    batch, _ = decode_all(registry, [encode_trade(a_trade(), old)])
    assert batch.schema == TRADE_SCHEMA


def test_a_column_keeps_the_name_it_first_got(registry: SchemaRegistry) -> None:
    """A field that is renamed is the same field: the number says so."""
    ids = [
        registry.register(SUBJECT, trade_with(field))
        for field in (LIQUIDITY, NewField("maker_or_taker", 16, Type.TYPE_STRING))
    ]
    renamed = Encoder(trade_with(NewField("maker_or_taker", 16, Type.TYPE_STRING)), ids[1])
    first = Encoder(trade_with(LIQUIDITY), ids[0])
    batch, _ = decode_all(
        registry,
        [renamed.value(a_trade(), {"maker_or_taker": "M"}), first.value(a_trade())],
    )
    assert batch["liquidity"].to_pylist() == ["M", None]


def test_an_integer_column_grows_wider(registry: SchemaRegistry) -> None:
    """Both widths stand in one batch, as the wider."""
    narrow, wide = (NewField("hops", 16, kind) for kind in (Type.TYPE_INT32, Type.TYPE_INT64))
    ids = [registry.register(SUBJECT, trade_with(field)) for field in (narrow, wide)]
    values = [
        Encoder(trade_with(narrow), ids[0]).value(a_trade(), {"hops": -1}),
        Encoder(trade_with(wide), ids[1]).value(a_trade(), {"hops": 2**40}),
    ]
    batch, _ = decode_all(registry, values)
    assert batch["hops"].to_pylist() == [-1, 2**40]
    assert batch.schema.field("hops").type == pa.int64()


def test_an_enumeration_is_text(registry: SchemaRegistry) -> None:
    """A number without a name keeps its digits; unset is null."""
    field = NewField("venue_kind", 16, Type.TYPE_ENUM, type_name=".k2.market.v1.VenueKind")
    schema = trade_with(field, enums={"VenueKind": ["VENUE_KIND_NONE", "VENUE_KIND_DARK"]})
    encoder = Encoder(schema, registry.register(SUBJECT, schema))
    values = [encoder.value(a_trade(), {"venue_kind": n}) for n in (1, 0, 7)]
    batch, _ = decode_all(registry, [*values, encoder.value(a_trade())])
    assert batch["venue_kind"].to_pylist() == ["VENUE_KIND_DARK", "VENUE_KIND_NONE", "7", None]


def test_a_field_of_plain_proto3_reads_as_zero_where_unset(registry: SchemaRegistry) -> None:
    """Without `optional`, Protobuf cannot tell unset from zero; older schemas' rows are null."""
    schema = trade_with(
        NewField("hidden", 16, Type.TYPE_BOOL, optional=False),
        NewField("tags", 17, Type.TYPE_STRING, repeated=True),
    )
    old = registry.register(SUBJECT, trade_with())
    encoder = Encoder(schema, registry.register(SUBJECT, schema))
    batch, _ = decode_all(
        registry,
        [
            encoder.value(a_trade(), {"hidden": True, "tags": ["a", "b"]}),
            encoder.value(a_trade()),
            encode_trade(a_trade(), old),
        ],
    )
    assert batch["hidden"].to_pylist() == [True, False, None]
    assert batch["tags"].to_pylist() == [["a", "b"], [], None]


def test_an_incompatible_schema_that_comes_anyway_is_a_dead_letter(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another registry may have taken it: its records are rejected alone, and say why."""
    good = registry.register(SUBJECT, trade_with(LIQUIDITY))
    monkeypatch.setattr(SchemaRegistry, "_check", lambda *_: None)
    bad = registry.register(SUBJECT, trade_with(NewField("fee", 16, Type.TYPE_DOUBLE)))
    kept = Encoder(trade_with(LIQUIDITY), good).value(a_trade(), {"liquidity": "MAKER"})
    found = TradeDecoder(registry).decode(
        [encode_trade(a_trade(), bad), kept, encode_trade(a_trade(), bad)],
        topic=TOPIC,
        partition=0,
        offsets=range(7, 10),
    )
    assert found.batch["kafka_offset"].to_pylist() == [8]
    assert [(letter.offset, letter.reason) for letter in found.rejected] == [
        (7, Reason.INCOMPATIBLE_SCHEMA),
        (9, Reason.INCOMPATIBLE_SCHEMA),
    ]
    assert "Trade.fee = 16 is double, and its column liquidity is" in found.rejected[0].detail
    assert found.rejected[0].raw == encode_trade(a_trade(), bad)


def test_what_follows_an_incompatible_schema_is_not_led_by_it(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schema that is refused defines nothing for those after it."""
    registry.register(SUBJECT, trade_with())
    with monkeypatch.context() as patched:
        patched.setattr(SchemaRegistry, "_check", lambda *_: None)
        registry.register("other", trade_with(NewField("x", 16, Type.TYPE_UINT64)))
    assert registry.register(SUBJECT, trade_with(LIQUIDITY))


def test_rows_go_back_into_values_with_what_was_added(registry: SchemaRegistry) -> None:
    """A row that is sent to the dead letters takes its added columns along."""
    kind = NewField("venue_kind", 18, Type.TYPE_ENUM, type_name=".k2.market.v1.VenueKind")
    tags = NewField("tags", 19, Type.TYPE_STRING, repeated=True)
    schema = trade_with(LIQUIDITY, FEE_TICKS, kind, tags, enums={"VenueKind": ["LIT", "DARK"]})
    encoder = Encoder(schema, registry.register(SUBJECT, schema))
    values = [
        encoder.value(
            a_trade(), {"liquidity": "MAKER", "fee_ticks": 0, "venue_kind": 1, "tags": ["a"]}
        ),
        encoder.value(a_trade(), {"venue_kind": 9}),
        encoder.value(a_trade()),
    ]
    batch, _ = decode_all(registry, values)
    again, reasons = decode_all(registry, Reencoder(registry)(pa.Table.from_batches([batch])))
    assert reasons == []
    assert again.equals(batch)
