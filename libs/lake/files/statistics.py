"""What Iceberg wants to know of a data file: sizes, counts and bounds per column.

PyIceberg computes the same from the Parquet footer, in Python per row group and column: with many
small row groups that takes longer than writing them. Here bounds come from the columns themselves.
"""

from __future__ import annotations

from typing import TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DoubleType,
    FloatType,
    ListType,
    MapType,
    NestedField,
    PrimitiveType,
    StringType,
)
from pyiceberg.utils.truncate import truncate_upper_bound_text_string

TEXT_BOUND_CHARACTERS = 16
# Their bounds decide which files a query reads: never cut.
WHOLE_BOUNDS = frozenset({"symbol", "kafka_topic"})
# Nobody prunes files by them, and a NaN has no place in the order of numbers.
UNBOUNDED = (BinaryType, BooleanType, DoubleType, FloatType)


class FileStatistics(TypedDict):
    """The keywords of PyIceberg's DataFile, by field id."""

    record_count: int
    column_sizes: dict[int, int]
    value_counts: dict[int, int]
    null_value_counts: dict[int, int]
    nan_value_counts: dict[int, int]
    lower_bounds: dict[int, bytes]
    upper_bounds: dict[int, bytes]
    split_offsets: list[int]


def file_statistics(schema: Schema, rows: pa.Table, footer: pq.FileMetaData) -> FileStatistics:
    """Describe a file by its rows and its Parquet footer."""
    fields = [field for field in schema.fields if field.name in rows.column_names]
    flat = [field for field in fields if isinstance(field.field_type, PrimitiveType)]
    bounds = {
        field.field_id: encoded
        for field in flat
        if (encoded := encoded_bounds(field, rows[field.name])) is not None
    }
    sizes, values, offsets = chunk_totals(leaf_ids(fields), footer)
    return FileStatistics(
        record_count=rows.num_rows,
        column_sizes=sizes,
        value_counts=values,
        null_value_counts={field.field_id: rows[field.name].null_count for field in flat},
        nan_value_counts={},
        lower_bounds={field_id: low for field_id, (low, _) in bounds.items()},
        upper_bounds={field_id: high for field_id, (_, high) in bounds.items() if high is not None},
        split_offsets=offsets,
    )


def leaf_ids(fields: list[NestedField]) -> list[int]:
    """Return the field ids of the Parquet leaves, in the file's order."""
    return [leaf for field in fields for leaf in leaves(field)]


def leaves(field: NestedField) -> list[int]:
    kind = field.field_type
    if isinstance(kind, ListType):
        return [kind.element_id]
    if isinstance(kind, MapType):
        return [kind.key_id, kind.value_id]
    return [field.field_id]


def chunk_totals(
    ids: list[int], footer: pq.FileMetaData
) -> tuple[dict[int, int], dict[int, int], list[int]]:
    """Add up the column chunks: sizes and value counts by field id; row group offsets."""
    sizes = dict.fromkeys(ids, 0)
    values = dict.fromkeys(ids, 0)
    offsets = []
    for group in map(footer.row_group, range(footer.num_row_groups)):
        chunks = [group.column(at) for at in range(len(ids))]
        for field_id, chunk in zip(ids, chunks, strict=True):
            sizes[field_id] += chunk.total_compressed_size
            values[field_id] += chunk.num_values
        offsets.append(first_byte(chunks[0]))
    return sizes, values, offsets


def first_byte(chunk: pq.ColumnChunkMetaData) -> int:
    page: int = chunk.data_page_offset
    return min(page, chunk.dictionary_page_offset) if chunk.has_dictionary_page else page


def encoded_bounds(
    field: NestedField, column: pa.ChunkedArray
) -> tuple[bytes, bytes | None] | None:
    if isinstance(field.field_type, UNBOUNDED):
        return None
    if pa.types.is_dictionary(column.type):
        column = used_values(column)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    extent = pc.min_max(column).as_py()
    if extent["min"] is None:
        return None
    kind = primitive(field)
    low, high = extent["min"], extent["max"]
    if isinstance(kind, StringType) and field.name not in WHOLE_BOUNDS:
        low, high = low[:TEXT_BOUND_CHARACTERS], cut_above(high)
    return to_bytes(kind, low), None if high is None else to_bytes(kind, high)


def primitive(field: NestedField) -> PrimitiveType:
    if not isinstance(field.field_type, PrimitiveType):
        raise TypeError(f"column {field.name} has no bounds")
    return field.field_type


def used_values(column: pa.ChunkedArray) -> pa.Array:
    """Return the distinct values that a slice of a coded column really holds."""
    encoded = column.combine_chunks()
    if len(encoded) and len(encoded.dictionary) == 1:
        return encoded.dictionary
    return encoded.dictionary.take(pc.unique(encoded.indices))


def cut_above(text: str) -> str | None:
    """Shorten an upper bound so that it stays one; None where no text is above."""
    cut: str | None = truncate_upper_bound_text_string(text, TEXT_BOUND_CHARACTERS)
    return cut
