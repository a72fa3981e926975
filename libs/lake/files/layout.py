"""How rows stand in a file: the form of its columns, their encodings, where row groups begin. Pure.

Row groups of at most 16k rows, where a symbol begins a group of its own unless it and its
neighbours are small; an encoding per column, zstd-1. PyIceberg's own writer has none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, IcebergType, ListType, LongType, MapType, NestedField

from libs.lake.files.arrange import FilePart, Ints

ROW_GROUP_ROWS = 16_384
# A row group costs 0.8 ms and a page header per column: with 2,000 symbols in a buffer of 1M rows,
# sharing groups among small symbols writes 2.5 times as fast and takes 18 % less space.
SHARED_GROUP_ROWS = 4_096
COMPRESSION_LEVEL = 1

# Prices and quantities repeat within 16k rows of one symbol: against PLAIN, on recorded trades,
# DuckDB reads them 1.6 times as fast from a dictionary, at the same size. BYTE_STREAM_SPLIT would
# be the smallest for notional, but DuckDB 2.0 does not read it in fixed-length byte arrays.
DICTIONARY_COLUMNS = (
    "exchange",
    "asset_class",
    "symbol",
    "sequence_epoch",
    "price",
    "quantity",
    "currency",
    "side",
    "origin",
    "kafka_topic",
    "kafka_partition",
    "trade_conditions.list.element",
    "vendor_data.key_value.key",
)
ENCODINGS = {
    "trade_id": "DELTA_BYTE_ARRAY",
    "source_sequence": "DELTA_BINARY_PACKED",
    "timestamp": "DELTA_BINARY_PACKED",
    "ingest_timestamp": "DELTA_BINARY_PACKED",
    "kafka_offset": "DELTA_BINARY_PACKED",
}
# Held as codes from the sort to the file: cheaper to reorder, and the writer takes codes.
CODED_COLUMNS = ("exchange", "asset_class", "currency", "side", "origin", "kafka_topic")
WIDER: Mapping[tuple[pa.DataType, type[IcebergType]], pa.DataType] = {
    (pa.int32(), LongType): pa.int64(),
    (pa.float32(), DoubleType): pa.float64(),
}
# Some runs of a code each, a few bytes a page: zstd would not make them smaller, and to set it up
# for a page costs more than to encode one.
UNCOMPRESSED_COLUMNS = (
    "exchange",
    "asset_class",
    "symbol",
    "currency",
    "origin",
    "kafka_topic",
    "kafka_partition",
)
# What queries skip row groups and pages by; for all columns they cost a sixth of the encoding.
STATISTICS_COLUMNS = (
    "exchange",
    "asset_class",
    "symbol",
    "source_sequence",
    "timestamp",
    "ingest_timestamp",
    "kafka_partition",
    "kafka_offset",
)
FIELD_ID = b"PARQUET:field_id"


def coded_columns(rows: pa.Table, schema: Schema) -> pa.Table:
    """Bring rows into the shape of the file: columns by field id, repeated texts as codes."""
    target = file_schema(schema, rows.schema)
    columns = []
    for field in target:
        if rows[field.name].null_count == rows.num_rows:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        column = rows[field.name].combine_chunks()
        if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
            columns.append(column.dictionary_encode())
        else:
            columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=target)


def reordered(rows: pa.Table, order: Ints) -> pa.Table:
    """Return rows, of one chunk, in another order; without a copy where it is the same."""
    if bool((np.diff(order) > 0).all()):
        return rows
    indices = pa.array(order)
    columns = [taken(column.chunk(0), indices) for column in rows.columns]
    return pa.Table.from_arrays(columns, schema=rows.schema)


def taken(column: pa.Array, indices: pa.Array) -> pa.Array:
    if column.null_count == len(column):
        return column
    if pa.types.is_dictionary(column.type) and len(column.dictionary) == 1:
        return column
    if pa.types.is_map(column.type) and one_entry_each(column):
        keys, items = column.keys.take(indices), column.items.take(indices)
        return pa.MapArray.from_arrays(column.offsets, keys, items, column.type)
    return column.take(indices)


def one_entry_each(maps: pa.MapArray) -> bool:
    """Say whether the n-th entry is the n-th map's: then its parts may be taken, at half price."""
    offsets = maps.offsets.to_numpy()
    return not maps.offset and not offsets[0] and bool((np.diff(offsets) == 1).all())


def file_schema(schema: Schema, rows: pa.Schema) -> pa.Schema:
    """Return the Arrow schema of a file: the columns both know, with the catalog's field ids."""
    shared = [field for field in schema.fields if field.name in rows.names]
    return pa.schema([file_field(field, stored_type(field, rows)) for field in shared])


def stored_type(field: NestedField, rows: pa.Schema) -> pa.DataType:
    """Return the rows' own type, or the table's where that is wider by now."""
    kind = rows.field(field.name).type
    return WIDER.get((kind, type(field.field_type)), kind)


def file_field(field: NestedField, arrow_type: pa.DataType) -> pa.Field:
    if field.name in CODED_COLUMNS and not pa.types.is_dictionary(arrow_type):
        arrow_type = pa.dictionary(pa.int32(), arrow_type)
    inner = field.field_type
    if isinstance(inner, ListType):
        arrow_type = pa.list_(with_id(inner.element_field, arrow_type.value_type))
    if isinstance(inner, MapType):
        arrow_type = pa.map_(
            with_id(inner.key_field, arrow_type.key_type),
            with_id(inner.value_field, arrow_type.item_type),
        )
    return with_id(field, arrow_type)


def with_id(field: NestedField, arrow_type: pa.DataType) -> pa.Field:
    metadata = {FIELD_ID: str(field.field_id)}
    return pa.field(field.name, arrow_type, nullable=not field.required, metadata=metadata)


def with_own_symbols(group: pa.Table, part: FilePart, start: int) -> pa.Table:
    """Leave only the group's own symbols among the values of a coded column."""
    at = group.schema.get_field_index("symbol")
    field = group.schema.field(at)
    if not pa.types.is_dictionary(field.type):
        return group
    stop = start + group.num_rows
    runs = [run for run in part.runs if run.start < stop and run.stop > start]
    lengths = [min(run.stop, stop) - max(run.start, start) for run in runs]
    indices = np.repeat(np.arange(len(runs), dtype=np.int32), lengths)
    symbols = pa.array([run.symbol for run in runs], field.type.value_type)
    return group.set_column(at, field, pa.DictionaryArray.from_arrays(indices, symbols))


def parquet_writer(stream: BinaryIO | pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a writer with K2's encodings."""
    leaves = {leaf for field in schema for leaf in leaf_paths(field)}
    compressed = leaves.difference(UNCOMPRESSED_COLUMNS)
    return pq.ParquetWriter(
        stream,
        schema,
        compression={leaf: "zstd" if leaf in compressed else "none" for leaf in leaves},
        compression_level=dict.fromkeys(compressed, COMPRESSION_LEVEL),
        use_dictionary=list(DICTIONARY_COLUMNS),
        column_encoding=ENCODINGS,
        store_schema=False,
        write_statistics=list(STATISTICS_COLUMNS),
    )


def leaf_paths(field: pa.Field) -> list[str]:
    """Return the paths of a column's leaves in a Parquet file."""
    if pa.types.is_map(field.type):
        return [f"{field.name}.key_value.{part}" for part in ("key", "value")]
    return [f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name]


def row_groups(part: FilePart) -> Iterator[tuple[int, int]]:
    """Yield the row groups' bounds, counted from the file's first row."""
    start = part.start
    for run, following in zip_longest(part.runs, part.runs[1:]):
        if following is not None and following.stop - start <= SHARED_GROUP_ROWS:
            continue
        for at in range(start, run.stop, ROW_GROUP_ROWS):
            yield at - part.start, min(at + ROW_GROUP_ROWS, run.stop) - part.start
        start = run.stop
