"""Fields that a registered schema has beyond the trade's own, as columns. Pure.

A field is known by its number. Its column keeps the name and the type it was first registered
with, whatever later schemas call it; a 32-bit integer alone may become wider. All topics of trades
feed one table, so a number means the same in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from k2.market.v1 import market_pb2

from libs.wire.compatibility import IncompatibleSchemaError, enum_violations, reads, spelled
from libs.wire.plain import REQUIRED_TEXTS, trade_schema
from libs.wire.schema import TEXTS, TRADE_SCHEMA

# Fields up to here have a column of their own in TRADE_SCHEMA; those above are added.
LAST_OWN_NUMBER = 15
LONGEST_NAME = 64

_Type = FieldDescriptorProto.Type
_TRADE = trade_schema()
_OWN = {f.number: f for f in _TRADE.message_type[0].field if f.number <= LAST_OWN_NUMBER}
_NEEDED = frozenset(
    {
        *REQUIRED_TEXTS,
        "asset_class",
        "timestamp_us",
        "ingest_timestamp_us",
        "price",
        "quantity",
        "origin",
    }
)
_TAKEN = {name.lower(): 0 for name in (*TRADE_SCHEMA.names, "message_id")}
_TYPES: Mapping[_Type.ValueType, pa.DataType] = {
    _Type.TYPE_STRING: pa.string(),
    _Type.TYPE_BYTES: pa.binary(),
    _Type.TYPE_BOOL: pa.bool_(),
    _Type.TYPE_INT32: pa.int32(),
    _Type.TYPE_SINT32: pa.int32(),
    _Type.TYPE_SFIXED32: pa.int32(),
    _Type.TYPE_INT64: pa.int64(),
    _Type.TYPE_SINT64: pa.int64(),
    _Type.TYPE_SFIXED64: pa.int64(),
    _Type.TYPE_UINT32: pa.int64(),
    _Type.TYPE_FIXED32: pa.int64(),
    _Type.TYPE_FLOAT: pa.float32(),
    _Type.TYPE_DOUBLE: pa.float64(),
    _Type.TYPE_ENUM: pa.string(),
}
_WIDER = {(pa.int32(), pa.int64()): pa.int64(), (pa.int64(), pa.int32()): pa.int64()}


@dataclass(frozen=True, slots=True)
class AddedField:
    """An added field of one schema: `name` and `type` are its column's."""

    number: int
    name: str
    type: pa.DataType
    # By number, where the field is an enumeration.
    labels: Mapping[int, str] | None = field(default=None, compare=False)

    @property
    def column(self) -> pa.Field:
        return pa.field(self.name, self.type)

    def number_of(self, held: object) -> object:
        """Return an enumeration's number for its name or digits, other values as they are."""
        if self.labels is None:
            return held
        numbers = {label: number for number, label in self.labels.items()}
        return numbers[str(held)] if str(held) in numbers else int(str(held))


def is_trade(schema: FileDescriptorProto) -> bool:
    return first_message(schema) == market_pb2.Trade.DESCRIPTOR.full_name


def first_message(schema: FileDescriptorProto) -> str:
    """Name a schema's first message in full; empty where it has none."""
    return f"{schema.package}.{schema.message_type[0].name}" if schema.message_type else ""


def added_fields(
    history: Iterable[FileDescriptorProto], schema: FileDescriptorProto
) -> tuple[AddedField, ...]:
    """Return what a schema of trades adds, given those registered before it, oldest first.

    Raises:
        IncompatibleSchemaError: its records cannot be rows of the table; each reason is named.
    """
    known = known_fields(history)
    problems = list(_refusals(schema, known))
    if problems:
        raise IncompatibleSchemaError(
            f"the schema cannot be read into {market_pb2.Trade.DESCRIPTOR.full_name}'s table: "
            + "; ".join(problems)
        )
    return tuple(_added(schema, known))


def known_fields(history: Iterable[FileDescriptorProto]) -> dict[int, AddedField]:
    """Return every field that trades' schemas have added so far, by number."""
    known: dict[int, AddedField] = {}
    for schema in filter(is_trade, history):
        if not any(_refusals(schema, known)):
            known |= {added.number: added for added in _added(schema, known)}
    return known


def _added(schema: FileDescriptorProto, known: Mapping[int, AddedField]) -> Iterator[AddedField]:
    enums = _enums(schema)
    for found in _beyond(schema):
        before, kind = known.get(found.number), _type(found)
        labels = enums.get(found.type_name)
        yield AddedField(
            found.number,
            before.name if before else found.name,
            _WIDER.get((before.type, kind), kind) if before else kind,
            {value.number: value.name for value in labels.value} if labels else None,
        )


def _beyond(schema: FileDescriptorProto) -> list[FieldDescriptorProto]:
    return [found for found in schema.message_type[0].field if found.number > LAST_OWN_NUMBER]


def _type(found: FieldDescriptorProto) -> pa.DataType | None:
    """Return the column's type, None where there is none for it."""
    kind = _TYPES.get(found.type)
    if found.label == FieldDescriptorProto.LABEL_REPEATED:
        return TEXTS if found.type == _Type.TYPE_STRING else None
    return kind


def _refusals(schema: FileDescriptorProto, known: Mapping[int, AddedField]) -> Iterator[str]:
    if schema.dependency:
        yield f"it imports {', '.join(schema.dependency)}, and a registered schema stands alone"
    yield from _own_refusals(schema)
    yield from enum_violations(_TRADE, schema)
    enums, taken = _enums(schema), _TAKEN | {f.name.lower(): n for n, f in known.items()}
    for found in _beyond(schema):
        yield from _added_refusals(found, enums, known.get(found.number), taken)
        if found.number not in known:
            taken[found.name.lower()] = found.number


def _own_refusals(schema: FileDescriptorProto) -> Iterator[str]:
    """Say which of the trade's own fields cannot be read, from data of this schema."""
    theirs = {found.number: found for found in schema.message_type[0].field}
    for number, own in _OWN.items():
        found = theirs.get(number)
        if found is None and own.name in _NEEDED:
            yield f"Trade.{own.name} = {number} is gone, and a trade needs it"
        elif found is not None and not reads(found, own):
            yield f"Trade.{own.name} = {number} is {spelled(found)}, and K2 reads {spelled(own)}"


def _added_refusals(
    found: FieldDescriptorProto,
    enums: Mapping[str, EnumDescriptorProto],
    before: AddedField | None,
    taken: Mapping[str, int],
) -> Iterator[str]:
    name, kind = f"Trade.{found.name} = {found.number}", _type(found)
    if kind is None or (found.type == _Type.TYPE_ENUM and found.type_name not in enums):
        yield f"{name} is {spelled(found)}, which no column holds"
    elif before and kind != before.type and (before.type, kind) not in _WIDER:
        yield f"{name} is {spelled(found)}, and its column {before.name} is {before.type}"
    holder = taken.get(found.name.lower(), found.number)
    if before is None and holder != found.number:
        owner = f"field {holder}" if holder else "a column of K2's own"
        yield f"{name} takes the name of {owner}"
    if len(found.name) > LONGEST_NAME:
        yield f"{name} has a name longer than {LONGEST_NAME} characters"


def _enums(schema: FileDescriptorProto) -> dict[str, EnumDescriptorProto]:
    """Return a file's enumerations by their full name, as a field's type_name spells it."""
    prefix = f".{schema.package}" if schema.package else ""
    enums = {f"{prefix}.{enum.name}": enum for enum in schema.enum_type}
    for message in schema.message_type:
        enums |= _nested_enums(f"{prefix}.{message.name}", message)
    return enums


def _nested_enums(path: str, message: DescriptorProto) -> dict[str, EnumDescriptorProto]:
    enums = {f"{path}.{enum.name}": enum for enum in message.enum_type}
    for nested in message.nested_type:
        enums |= _nested_enums(f"{path}.{nested.name}", nested)
    return enums


def with_added(base: pa.Schema, added: Sequence[AddedField]) -> pa.Schema:
    """Return a schema with the added columns after its own."""
    return pa.schema([*base, *(found.column for found in added)]) if added else base
