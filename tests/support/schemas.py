"""Trades' schemas with added fields, built from the shipped one, and values written with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    EnumDescriptorProto,
    EnumValueDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from libs.market.trade import Trade
from libs.wire.added import LAST_OWN_NUMBER
from libs.wire.framing import frame
from libs.wire.plain import encode_trade, trade_schema

Type = FieldDescriptorProto.Type
Label = FieldDescriptorProto.Label


@dataclass(frozen=True, slots=True)
class NewField:
    """A field as one would write it in the .proto."""

    name: str
    number: int
    type: Type.ValueType
    repeated: bool = False
    # proto3's `optional`: unset is null, not zero.
    optional: bool = True
    type_name: str = ""


LIQUIDITY = NewField("liquidity", 16, Type.TYPE_STRING)
FEE_TICKS = NewField("fee_ticks", 17, Type.TYPE_INT64)


def trade_with(
    *fields: NewField, enums: Mapping[str, Sequence[str]] | None = None
) -> FileDescriptorProto:
    """Return the schema of a trade's own fields, and further ones."""
    schema = own_schema()
    trade = schema.message_type[0]
    for new in fields:
        label = Label.LABEL_REPEATED if new.repeated else Label.LABEL_OPTIONAL
        added = trade.field.add(name=new.name, number=new.number, type=new.type, label=label)
        if new.type_name:
            added.type_name = new.type_name
        if new.optional and not new.repeated:
            added.proto3_optional = True
            added.oneof_index = len(trade.oneof_decl)
            trade.oneof_decl.add(name=f"_{new.name}")
    for name, values in (enums or {}).items():
        numbered = [EnumValueDescriptorProto(name=v, number=n) for n, v in enumerate(values)]
        schema.enum_type.append(EnumDescriptorProto(name=name, value=numbered))
    return schema


def own_schema() -> FileDescriptorProto:
    """Return the shipped schema without what was ever added to it."""
    schema = trade_schema()
    trade = schema.message_type[0]
    kept = [found for found in trade.field if found.number <= LAST_OWN_NUMBER]
    oneofs = [one for at, one in enumerate(trade.oneof_decl) if any(uses(f, at) for f in kept)]
    del trade.field[:], trade.oneof_decl[:]
    trade.field.extend(kept)
    trade.oneof_decl.extend(oneofs)
    return schema


def uses(found: FieldDescriptorProto, oneof: int) -> bool:
    return found.HasField("oneof_index") and found.oneof_index == oneof


def message_class(schema: FileDescriptorProto) -> type[Message]:
    """Return the class of a schema's first message, without a generated stub."""
    pool = DescriptorPool()
    pool.Add(schema)
    name = f"{schema.package}.{schema.message_type[0].name}"
    return GetMessageClass(pool.FindMessageTypeByName(name))


class Encoder:
    """Writes trades as a producer with this schema does."""

    def __init__(self, schema: FileDescriptorProto, schema_id: int) -> None:
        self._class = message_class(schema)
        self._schema_id = schema_id

    def value(self, trade: Trade, added: Mapping[str, object] | None = None) -> bytes:
        message = self._class.FromString(encode_trade(trade, 0)[6:])
        for name, value in (added or {}).items():
            if isinstance(value, list):
                getattr(message, name).extend(value)
            else:
                setattr(message, name, value)
        return frame(self._schema_id, message.SerializeToString())
