"""Framed Protobuf to Arrow in native code, by the record's own schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from k2.market.v1 import market_pb2

from libs.market.errors import InvalidError
from libs.wire.added import LAST_OWN_NUMBER, AddedField, first_message, with_added
from libs.wire.compatibility import IncompatibleSchemaError
from libs.wire.framing import HEADER_BYTES
from libs.wire.plain import trade_schema

Rows = npt.NDArray[np.int64]


class Handler(Protocol):
    """What we use of ptars' converter, which is native code without types."""

    def schema(self) -> pa.Schema: ...
    def array_to_record_batch(self, values: pa.Array) -> pa.RecordBatch: ...
    def record_batch_to_array(self, batch: pa.RecordBatch) -> pa.Array: ...


_ZEROS: Mapping[pa.DataType, object] = {pa.string(): "", pa.binary(): b"", pa.bool_(): False}
_TRADE = market_pb2.Trade.DESCRIPTOR
_TODAYS = trade_schema().message_type[0]
_CONFIG = ptars.PtarsConfig(confluent_wire_policy="protobuf", list_value_name="element")


def handler_of(message: Descriptor) -> Handler:
    """Build ptars' converter between framed values and Arrow."""
    handler: Handler = ptars.HandlerPool([message.file], _CONFIG).get_for_message(message)
    return handler


PROTO_TRADE_SCHEMA: pa.Schema = handler_of(_TRADE).schema()
_OWN = [field for field in _TRADE.fields if field.number <= LAST_OWN_NUMBER]
_OWN_SCHEMA = pa.schema([PROTO_TRADE_SCHEMA.field(field.name) for field in _OWN])


class NotATradeError(InvalidError):
    """A schema whose first message is not a trade."""


class SchemaReader:
    """Reads values of one registered schema into today's columns, matched by field number.

    What the schema adds to a trade's own fields follows them as further columns.
    """

    def __init__(self, schema: FileDescriptorProto, added: Sequence[AddedField] = ()) -> None:
        """Prepare to read.

        Raises:
            NotATradeError: the schema's first message is another.
            IncompatibleSchemaError: it is no valid schema.
        """
        name = first_message(schema)
        if name != _TRADE.full_name:
            raise NotATradeError(f"the schema is of {name or 'nothing'}", field="schema")
        written = message_of(schema)
        self.added = tuple(added)
        self.is_todays = schema.message_type[0] == _TODAYS
        self._schema = with_added(_OWN_SCHEMA, self.added)
        self._handler = handler_of(written)
        self._names = {field.number: field.name for field in written.fields}

    def read(self, values: pa.Array) -> tuple[pa.RecordBatch, Rows]:
        """Decode framed values; return rows, and which were left out of them."""
        parts = list(self._halved(values, 0))
        batches = [batch for _, batch in parts if batch is not None]
        undecodable = [start for start, batch in parts if batch is None]
        if len(batches) != 1:
            nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
            batches = [pa.concat_batches([nothing, *batches])]
        return batches[0], np.array(undecodable, np.int64)

    def _halved(self, values: pa.Array, start: int) -> Iterator[tuple[int, pa.RecordBatch | None]]:
        """Halve what fails until each bad value stands alone: ptars says only that one failed."""
        try:
            yield start, self._today(self._handler.array_to_record_batch(values))
        except ValueError:
            if len(values) == 1:
                yield start, None
                return
            half = len(values) // 2
            yield from self._halved(values.slice(0, half), start)
            yield from self._halved(values.slice(half), start + half)

    def _today(self, written: pa.RecordBatch) -> pa.RecordBatch:
        columns = [self._column(written, field.number, field.name) for field in _OWN]
        columns += [
            added_column(written.column(self._names[added.number]), added) for added in self.added
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _column(self, written: pa.RecordBatch, number: int, name: str) -> pa.Array:
        field = _OWN_SCHEMA.field(name)
        if number not in self._names:
            return default_column(field, written.num_rows)
        column = written.column(self._names[number])
        return column if column.type == field.type else column.cast(field.type)


def message_of(schema: FileDescriptorProto) -> Descriptor:
    """Return a schema's first message.

    Raises:
        IncompatibleSchemaError: Protobuf refuses the schema.
    """
    pool = DescriptorPool()
    try:
        pool.Add(schema)
        return pool.FindMessageTypeByName(first_message(schema))
    except (TypeError, KeyError) as error:
        raise IncompatibleSchemaError(f"the schema is not valid: {error}") from error


def added_column(values: pa.Array, added: AddedField) -> pa.Array:
    """Bring an added field into its column's type; an enumeration's numbers into their names."""
    if added.labels is None:
        return values if values.type == added.type else values.cast(added.type)
    numbers = list(added.labels)
    names = pa.array(added.labels.values(), pa.string())
    named = names.take(pc.index_in(values, pa.array(numbers, values.type)))
    return pc.coalesce(named, values.cast(pa.string()))


def with_values(
    value: bytes, schema: FileDescriptorProto, values: Mapping[AddedField, object]
) -> bytes:
    """Set added fields of one framed value, by what their columns hold; nulls stay unset."""
    written = message_of(schema)
    message = GetMessageClass(written).FromString(value[HEADER_BYTES:])
    for added, held in values.items():
        name = written.fields_by_number[added.number].name
        if isinstance(held, list):
            getattr(message, name).extend(held)
        elif held is not None:
            setattr(message, name, added.number_of(held))
    return value[:HEADER_BYTES] + message.SerializeToString()


def default_column(field: pa.Field, rows: int) -> pa.Array:
    """Fill a column with what Protobuf reads where nothing was written."""
    if field.nullable:
        return pa.nulls(rows, field.type)
    if pa.types.is_nested(field.type):
        return pa.array([[]] * rows, field.type)
    return pa.repeat(pa.scalar(_ZEROS.get(field.type, 0), field.type), rows)
