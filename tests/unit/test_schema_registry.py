from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from libs.market.errors import CorruptError
from libs.wire.compatibility import IncompatibleSchemaError
from libs.wire.plain import trade_schema
from libs.wire.registry import SchemaRegistry, UnknownSchemaError, subject_of
from libs.wire.trades import Reason, TradeDecoder, encode_trade
from tests.support.wire import a_trade, trades_of

Type = FieldDescriptorProto.Type
Label = FieldDescriptorProto.Label
SUBJECT = "market.crypto.trades.binance-value"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "schemas.json"


def changed(change: Callable[[DescriptorProto], object]) -> FileDescriptorProto:
    schema = trade_schema()
    change(schema.message_type[0])
    return schema


def add_field(number: int, name: str = "venue_note") -> Callable[[DescriptorProto], object]:
    return lambda trade: trade.field.add(
        name=name, number=number, type=Type.TYPE_STRING, label=Label.LABEL_OPTIONAL
    )


def retype(name: str, type_: Type.ValueType) -> Callable[[DescriptorProto], None]:
    def change(trade: DescriptorProto) -> None:
        next(field for field in trade.field if field.name == name).type = type_

    return change


def relabel(trade: DescriptorProto) -> None:
    next(field for field in trade.field if field.name == "price").label = Label.LABEL_REPEATED


def remove(name: str) -> Callable[[DescriptorProto], None]:
    def change(trade: DescriptorProto) -> None:
        kept = [field for field in trade.field if field.name != name]
        del trade.field[:]
        trade.field.extend(kept)

    return change


def rename(trade: DescriptorProto) -> None:
    next(field for field in trade.field if field.name == "price").name = "traded_price"


def rename_and_add(trade: DescriptorProto) -> None:
    rename(trade)
    add_field(99)(trade)


def reuse_number(trade: DescriptorProto) -> None:
    remove("timestamp_us")(trade)
    add_field(7)(trade)


def test_a_schema_keeps_its_id(path: Path) -> None:
    """Registered again, by another process's registry or under another subject, it is the same."""
    first = SchemaRegistry(path).register(SUBJECT, trade_schema())

    assert SchemaRegistry(path).register(SUBJECT, trade_schema()) == first
    assert SchemaRegistry(path).register("another-value", trade_schema()) == first
    assert SchemaRegistry(path).get(first) == trade_schema()


def test_a_new_version_has_a_new_id_and_the_old_one_stays(path: Path) -> None:
    """What was written under the old id can be read for ever."""
    registry = SchemaRegistry(path)
    old = registry.register(SUBJECT, trade_schema())
    new = registry.register(SUBJECT, changed(add_field(99)))

    assert new != old
    assert registry.get(old) == trade_schema()
    assert registry.register(SUBJECT, trade_schema()) == old


@pytest.mark.parametrize(
    "change",
    [
        add_field(99),
        remove("vendor_data"),
        rename,
    ],
    ids=["field added", "field removed", "field renamed"],
)
def test_what_reads_the_old_data_may_follow(
    path: Path, change: Callable[[DescriptorProto], object]
) -> None:
    """Confluent's BACKWARD takes these."""
    registry = SchemaRegistry(path)
    registry.register(SUBJECT, trade_schema())

    assert registry.register(SUBJECT, changed(change))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (retype("price", Type.TYPE_DOUBLE), "price = 9"),
        (retype("timestamp_us", Type.TYPE_INT32), "timestamp_us = 7"),
        (relabel, "price = 9"),
        (reuse_number, "timestamp_us = 7"),
    ],
    ids=["type changed", "integer narrowed", "made repeated", "number reused"],
)
def test_what_cannot_read_the_old_data_is_refused(
    path: Path, change: Callable[[DescriptorProto], object], field: str
) -> None:
    """The field is named, and the file is as before."""
    registry = SchemaRegistry(path)
    registry.register(SUBJECT, trade_schema())
    before = path.read_bytes()

    with pytest.raises(IncompatibleSchemaError, match=rf"Trade\.{field} changes"):
        registry.register(SUBJECT, changed(change))
    assert path.read_bytes() == before


def test_a_message_may_not_go_or_change_places(path: Path) -> None:
    """The framing says "the first message", so it must stay the first."""
    registry = SchemaRegistry(path)
    registry.register(SUBJECT, trade_schema())
    schema = trade_schema()
    schema.message_type.insert(0, DescriptorProto(name="Quote"))

    with pytest.raises(IncompatibleSchemaError, match="first message was Trade and would be Quote"):
        registry.register(SUBJECT, schema)


def test_an_id_registered_elsewhere_is_found(path: Path) -> None:
    """A reader that started earlier sees what a writer registers later."""
    reader, writer = SchemaRegistry(path), SchemaRegistry(path)
    with pytest.raises(UnknownSchemaError, match="schema id 1 is not in the registry"):
        reader.get(1)

    assert reader.get(writer.register(SUBJECT, trade_schema())) == trade_schema()


def test_a_file_that_was_away_is_read_again(path: Path) -> None:
    """It comes back with the time, inode and size it had; its schemas are known again."""
    registry = SchemaRegistry(path)
    schema_id = registry.register("a-value", trade_schema())
    away = path.rename(path.with_suffix(".away"))
    with pytest.raises(UnknownSchemaError):
        registry.get(schema_id + 1)

    away.rename(path)

    assert registry.get(schema_id) == trade_schema()


def test_a_damaged_file_is_one_sentence(path: Path) -> None:
    """It names the file and says what to do, and is not written over."""
    path.parent.mkdir()
    path.write_text("{half")

    for act in (
        lambda: SchemaRegistry(path).get(1),
        lambda: SchemaRegistry(path).register(SUBJECT, trade_schema()),
    ):
        with pytest.raises(CorruptError, match=rf"{path} is not a schema registry; restore it"):
            act()
    assert path.read_text() == "{half"


def test_processes_that_register_at_once_lose_nothing(path: Path) -> None:
    """Each gets an id of its own, and every id is there afterwards."""
    script = (
        "import sys\n"
        "from libs.wire.registry import SchemaRegistry\n"
        "from libs.wire.plain import trade_schema\n"
        "schema = trade_schema(); schema.package = 'p' + sys.argv[2]\n"
        "print(SchemaRegistry(sys.argv[1]).register('s' + sys.argv[2], schema))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, path, str(n)], stdout=subprocess.PIPE)
        for n in range(4)
    ]
    ids = {int(process.communicate(timeout=60)[0]) for process in processes}

    assert ids == {1, 2, 3, 4}
    assert {SchemaRegistry(path).get(schema_id).package for schema_id in ids} == {
        "p0",
        "p1",
        "p2",
        "p3",
    }


def test_older_and_newer_schemas_are_read_by_field_number(path: Path) -> None:
    """One batch may hold trades of several schemas: a renamed, an added and a missing field."""
    registry = SchemaRegistry(path)
    ids = [
        registry.register("older-value", changed(remove("vendor_data"))),
        registry.register(SUBJECT, trade_schema()),
        registry.register(SUBJECT, changed(rename)),
        registry.register(SUBJECT, changed(rename_and_add)),
    ]
    sent = [a_trade(source_sequence=n) for n in range(8)]
    values = [encode_trade(trade, ids[n % len(ids)]) for n, trade in enumerate(sent)]

    found = TradeDecoder(registry).decode(values, topic="t", partition=0, offsets=range(8))

    assert len(set(ids)) == len(ids)
    assert trades_of(found.batch) == sent
    assert found.batch["kafka_offset"].to_pylist() == list(range(8))


def test_a_schema_of_something_else_is_no_trade(path: Path) -> None:
    """Its records are rejected, and say so."""
    registry = SchemaRegistry(path)
    other = FileDescriptorProto(
        name="o.proto", package="o", message_type=[DescriptorProto(name="Other")]
    )
    schema_id = registry.register(subject_of("others"), other)

    found = TradeDecoder(registry).decode(
        [encode_trade(a_trade(), schema_id)], topic="t", partition=0, offsets=[9]
    )

    assert [(bad.offset, bad.reason) for bad in found.rejected] == [(9, Reason.UNKNOWN_SCHEMA)]
    assert found.batch.num_rows == 0
