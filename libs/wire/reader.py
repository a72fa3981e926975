"""Framed Protobuf to Arrow in native code, by the record's own schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import ptars
import pyarrow as pa
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from k2.market.v1 import market_pb2

from libs.market.errors import InvalidError

Rows = npt.NDArray[np.int64]


class Handler(Protocol):
    """What we use of ptars' converter, which is native code without types."""

    def schema(self) -> pa.Schema: ...
    def array_to_record_batch(self, values: pa.Array) -> pa.RecordBatch: ...
    def record_batch_to_array(self, batch: pa.RecordBatch) -> pa.Array: ...


_TRADE = market_pb2.Trade.DESCRIPTOR
_CONFIG = ptars.PtarsConfig(confluent_wire_policy="protobuf", list_value_name="element")


def handler_of(message: Descriptor) -> Handler:
    """Build ptars' converter between framed values and Arrow."""
    handler: Handler = ptars.HandlerPool([message.file], _CONFIG).get_for_message(message)
    return handler


PROTO_TRADE_SCHEMA: pa.Schema = handler_of(_TRADE).schema()
_NOTHING = pa.RecordBatch.from_pylist([], schema=PROTO_TRADE_SCHEMA)


class NotATradeError(InvalidError):
    """A schema whose first message is not a trade."""


class SchemaReader:
    """Reads values of one registered schema into today's columns, matched by field number."""

    def __init__(self, schema: FileDescriptorProto) -> None:
        """Prepare to read.

        Raises:
            NotATradeError: the schema's first message is another.
        """
        name = f"{schema.package}.{schema.message_type[0].name}" if schema.message_type else ""
        if name != _TRADE.full_name:
            raise NotATradeError(f"the schema is of {name or 'nothing'}", field="schema")
        pool = DescriptorPool()
        pool.Add(schema)
        written = pool.FindMessageTypeByName(name)
        self._handler = handler_of(written)
        self._names = {field.number: field.name for field in written.fields}

    def read(self, values: pa.Array) -> tuple[pa.RecordBatch, Rows]:
        """Decode framed values; return PROTO_TRADE_SCHEMA rows, and the rows left out of them."""
        parts = list(self._halved(values, 0))
        batches = [batch for _, batch in parts if batch is not None]
        undecodable = [start for start, batch in parts if batch is None]
        whole = batches[0] if len(batches) == 1 else pa.concat_batches([_NOTHING, *batches])
        return whole, np.array(undecodable, np.int64)

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
        columns = [self._column(written, field.number, field.name) for field in _TRADE.fields]
        return pa.RecordBatch.from_arrays(columns, schema=PROTO_TRADE_SCHEMA)

    def _column(self, written: pa.RecordBatch, number: int, name: str) -> pa.Array:
        field = PROTO_TRADE_SCHEMA.field(name)
        if number not in self._names:
            return default_column(field, written.num_rows)
        column = written.column(self._names[number])
        return column if column.type == field.type else column.cast(field.type)


def default_column(field: pa.Field, rows: int) -> pa.Array:
    """Fill a column with what Protobuf reads where nothing was written."""
    if field.nullable:
        return pa.nulls(rows, field.type)
    if pa.types.is_nested(field.type):
        return pa.array([[]] * rows, field.type)
    return pa.repeat(pa.scalar("" if pa.types.is_string(field.type) else 0, field.type), rows)
