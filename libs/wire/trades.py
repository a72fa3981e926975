"""Trades to Kafka values and back, by the batch, without a Python object a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from k2.market.v1 import market_pb2

from libs.wire.added import added_fields, is_trade, with_added
from libs.wire.codes import as_typed, constant
from libs.wire.columns import trade_columns
from libs.wire.compatibility import IncompatibleSchemaError
from libs.wire.framing import HEADER_BYTES, header, unframe
from libs.wire.kernel import take
from libs.wire.plain import (
    ASSET_CLASSES,
    ORIGINS,
    SIDES,
    decode_trade,
    encode_trade,
    trade_schema,
)
from libs.wire.promote import together
from libs.wire.reader import (
    PROTO_TRADE_SCHEMA,
    NotATradeError,
    SchemaReader,
    default_column,
    handler_of,
)
from libs.wire.registry import SchemaRegistry, UnknownSchemaError, subject_of
from libs.wire.rejection import Reason, Rejected, RejectedError
from libs.wire.schema import TRADE_SCHEMA, with_codes

__all__ = [
    "PROTO_TRADE_SCHEMA",
    "Decoded",
    "Reason",
    "Rejected",
    "RejectedError",
    "TradeDecoder",
    "decode_trade",
    "encode_trade",
    "encode_trades",
    "proto_batch",
    "register_trades",
    "trade_schema",
]

Rows = npt.NDArray[np.int64]
_Part = tuple[pa.RecordBatch, Rows]

_NUMBERS: dict[StrEnum, int] = {
    name: number
    for names in (ASSET_CLASSES, SIDES, ORIGINS)
    for number, name in enumerate(names)
    if name is not None
}
_KAFKA_COLUMNS = 3
_ENCODER = handler_of(market_pb2.Trade.DESCRIPTOR)
_EMPTY_BYTES = pa.scalar(b"", pa.binary())


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a run of records became: every record is in one of the two, both in offset order."""

    batch: pa.RecordBatch
    rejected: tuple[Rejected, ...]


def register_trades(registry: SchemaRegistry, topic: str) -> int:
    """Register today's trade for a topic and return its schema id."""
    return registry.register(subject_of(topic), trade_schema())


def proto_batch(
    columns: Mapping[str, pa.Array | Sequence[object]],
    constants: Mapping[str, str | int | StrEnum],
) -> pa.RecordBatch:
    """Build encode_trades' input from columns by name, and what is the same in every row.

    Enumerations go by number, or by name among the constants; what is in neither is empty.
    """
    rows = len(next(iter(columns.values())))
    arrays = []
    for field in PROTO_TRADE_SCHEMA:
        if field.name in columns:
            arrays.append(pa.array(columns[field.name], field.type))
        elif field.name in constants:
            value = constants[field.name]
            number = _NUMBERS[value] if isinstance(value, StrEnum) else value
            arrays.append(pa.repeat(pa.scalar(number, field.type), rows))
        else:
            arrays.append(default_column(field, rows))
    return pa.RecordBatch.from_arrays(arrays, schema=PROTO_TRADE_SCHEMA)


def encode_trades(batch: pa.RecordBatch, schema_id: int) -> list[bytes]:
    """Encode PROTO_TRADE_SCHEMA rows as framed Kafka values, keeping their order."""
    payloads = _ENCODER.record_batch_to_array(batch)
    prefix = pa.scalar(header(schema_id), pa.binary())
    values: list[bytes] = pc.binary_join_element_wise(prefix, payloads, _EMPTY_BYTES).to_pylist()
    return values


class TradeDecoder:
    """Decodes Kafka values to batches; what is no trade is rejected alone.

    A batch has TRADE_SCHEMA's columns, and after them those that the schemas of its records add.
    If `coded`, columns of few values are codes.
    """

    def __init__(self, registry: SchemaRegistry, *, coded: bool = False) -> None:
        self._registry = registry
        self._schema = with_codes(TRADE_SCHEMA) if coded else TRADE_SCHEMA
        # The columns that come from the value.
        self._own = pa.schema(list(self._schema)[:-_KAFKA_COLUMNS])
        self._readers: dict[int, SchemaReader] = {}
        self._refused: dict[int, RejectedError] = {}

    def decode(
        self,
        values: Sequence[bytes | None] | pa.Array,
        *,
        topic: str,
        partition: int,
        offsets: Sequence[int] | Rows,
        enrich: bool = True,
    ) -> Decoded:
        """Decode the values of one partition.

        A record's fate depends on its own bytes and the registry alone, never on its neighbours,
        and `enrich` decides only whether `notional` is computed or null.
        """
        framed = values if isinstance(values, pa.Array) else pa.array(values, pa.binary())
        positions = np.asarray(offsets, np.int64)
        taken = self._taken(framed, enrich=enrich)
        left, rest = _without(framed, [rows for _, rows in taken])
        parts = [
            _read(reader, rest, rows, self._own, enrich=enrich)
            for schema_id, rows in _by_schema(rest)
            if (reader := self._reader(schema_id)) is not None
        ]
        kept = [rows for _, rows in parts]
        decoded, rows = _in_order(
            [*taken, *((batch, left[rows]) for batch, rows in parts)], self._own
        )
        return Decoded(
            self._with_kafka(decoded, topic, partition, positions[rows]),
            self._rejected(rest, positions[left], kept),
        )

    def _taken(self, framed: pa.Array, *, enrich: bool) -> list[_Part]:
        """Read natively what can be, by the schema of the first: nearly always all of them."""
        first = (framed[0].as_py() or b"")[:HEADER_BYTES] if len(framed) else b""
        if not _is_header(first):
            return []
        reader = self._reader(unframe(first)[0])
        found = take(framed, first, enrich=enrich) if reader and reader.is_todays else None
        if found is None or not len(found.rows):
            return []
        arrays = [as_typed(found.arrays[field.name], field.type) for field in self._own]
        return [(pa.RecordBatch.from_arrays(arrays, schema=self._own), found.rows)]

    def _with_kafka(
        self, batch: pa.RecordBatch, topic: str, partition: int, offsets: Rows
    ) -> pa.RecordBatch:
        rows, own = batch.num_rows, len(self._own)
        kafka = [
            constant(topic, rows).cast(self._schema.field("kafka_topic").type),
            pa.repeat(pa.scalar(partition, pa.int32()), rows),
            pa.array(offsets, pa.int64()),
        ]
        arrays = [*batch.columns[:own], *kafka, *batch.columns[own:]]
        added = list(batch.schema)[own:] if batch.num_columns > own else []
        schema = pa.schema([*self._schema, *added]) if added else self._schema
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _reader(self, schema_id: int) -> SchemaReader | None:
        """Return the reader of a schema, None where its records cannot be trades."""
        reader = self._readers.get(schema_id)
        if reader is None and schema_id not in self._refused:
            try:
                reader = self._readers[schema_id] = self._new_reader(schema_id)
            except UnknownSchemaError:
                return None
            except NotATradeError as error:
                self._refused[schema_id] = unknown(schema_id, error.message)
            except IncompatibleSchemaError as error:
                self._refused[schema_id] = incompatible(schema_id, error.message)
        return reader

    def _new_reader(self, schema_id: int) -> SchemaReader:
        schema = self._registry.get(schema_id)
        if not is_trade(schema):
            return SchemaReader(schema)
        return SchemaReader(schema, added_fields(self._registry.before(schema_id), schema))

    def _rejected(
        self, framed: pa.Array, positions: Rows, kept: Sequence[Rows]
    ) -> tuple[Rejected, ...]:
        left, raws = _without(framed, kept)
        return tuple(
            Rejected(int(offset), *self._reason(raw), raw or b"")
            for offset, raw in zip(positions[left], raws.to_pylist(), strict=True)
        )

    def _reason(self, value: bytes | None) -> tuple[Reason, str]:
        """Ask the plain path, which refuses the same rows, for its sentence."""
        try:
            self._check_schema(value)
            decode_trade(value)
        except RejectedError as error:
            return error.rejection, error.message
        return Reason.FIELD, "the checks by column refuse what the checks by row accept"

    def _check_schema(self, value: bytes | None) -> None:
        schema_id = unframe(value)[0] if value else None
        if schema_id is not None and self._reader(schema_id) is None:
            raise self._refused.get(schema_id) or unknown(schema_id, "nobody registered it")


def unknown(schema_id: int, why: str) -> RejectedError:
    return RejectedError(Reason.UNKNOWN_SCHEMA, f"schema id {schema_id} is of no trade: {why}")


def incompatible(schema_id: int, why: str) -> RejectedError:
    return RejectedError(Reason.INCOMPATIBLE_SCHEMA, f"schema id {schema_id}: {why}")


def _is_header(first: bytes) -> bool:
    try:
        unframe(first)
    except RejectedError:
        return False
    return True


def _without(framed: pa.Array, taken: Sequence[Rows]) -> tuple[Rows, pa.Array]:
    """Return which values are in none of these, and the values, as binary."""
    left = np.ones(len(framed), np.bool_)
    for rows in taken:
        left[rows] = False
    if left.all():
        return np.arange(len(framed)), framed.cast(pa.binary())
    if not left.any():
        return np.empty(0, np.int64), pa.array([], pa.binary())
    return np.flatnonzero(left), framed.cast(pa.binary()).filter(pa.array(left))


def _by_schema(framed: pa.Array) -> Iterator[tuple[int, Rows]]:
    """Group well-framed rows by schema id; nearly always there is one."""
    if not len(framed):
        return
    first = framed[0].as_py() or b""
    if len(first) >= HEADER_BYTES and pc.all(_starts_with(framed, first[:HEADER_BYTES])).as_py():
        candidates = [first[:HEADER_BYTES]]
    else:
        candidates = pc.binary_slice(framed, 0, HEADER_BYTES).unique().drop_null().to_pylist()
    for candidate in candidates:
        try:
            schema_id, _ = unframe(candidate)
        except RejectedError:
            continue
        of_all = len(candidates) == 1 and not framed.null_count
        yield (
            schema_id,
            np.arange(len(framed)) if of_all else np.flatnonzero(_starts_with(framed, candidate)),
        )


def _starts_with(framed: pa.Array, prefix: bytes) -> pa.Array:
    return pc.fill_null(pc.starts_with(framed, pattern=prefix), False)


def _read(
    reader: SchemaReader, framed: pa.Array, rows: Rows, own: pa.Schema, *, enrich: bool
) -> _Part:
    """Decode some rows; return the good ones, and which they were."""
    whole = len(rows) == len(framed)
    batch, undecodable = reader.read(framed if whole else framed.take(pa.array(rows)))
    decoded = np.delete(rows, undecodable) if len(undecodable) else rows
    columns = trade_columns(batch, enrich=enrich)
    arrays = [as_typed(columns.arrays[field.name], field.type) for field in own]
    arrays += [batch[added.name] for added in reader.added]
    schema = with_added(own, reader.added)
    trades = pa.RecordBatch.from_arrays(arrays, schema=schema)
    if not columns.refused.any():
        return trades, decoded
    return trades.filter(pa.array(~columns.refused)), decoded[~columns.refused]


def _in_order(parts: Sequence[_Part], own: pa.Schema) -> _Part:
    """Put what was decoded schema by schema back into the order of the log."""
    if len(parts) == 1:
        return parts[0]
    nothing = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in own], schema=own)
    decoded = together([nothing, *(batch for batch, _ in parts)])
    rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in parts)])
    order = np.argsort(rows)
    return decoded.take(pa.array(order)), rows[order]
