"""Data files read as the table has its columns now: by field id, null where a file is older."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import ListType, MapType, NestedField, PrimitiveType

from libs.lake.table.naming import renamed
from libs.lake.table.tables import trades_columns
from libs.market.errors import CorruptError

FIELD_ID = b"PARQUET:field_id"


@dataclass(frozen=True, slots=True)
class WholeRows:
    """All columns of the table, K2's own under K2's names, and their Arrow types."""

    schema: Schema
    types: tuple[pa.DataType, ...]

    def shaped(self, rows: pa.Table) -> pa.Table:
        """Bring a file's rows into the table's columns.

        Raises:
            CorruptError: a required column is not there.
        """
        held = held_columns(rows.schema)
        columns = [
            column_of(rows, held.get(field.field_id), field, kind)
            for field, kind in zip(self.schema.fields, self.types, strict=True)
        ]
        return pa.Table.from_arrays(columns, names=[field.name for field in self.schema.fields])


def whole_rows(metadata: TableMetadata) -> WholeRows:
    """Return every column of the table, those that other tools added too.

    Raises:
        CorruptError: a column is nested deeper than K2 can write.
    """
    own = {field.field_id: field.name for field in trades_columns(metadata).schema.fields}
    fields = [
        renamed(field, own.get(field.field_id, field.name)) for field in metadata.schema().fields
    ]
    for field in fields:
        refuse_deep(field)
    schema = Schema(*fields)
    arrow = schema_to_pyarrow(schema, include_field_ids=False)
    return WholeRows(schema, tuple(narrow(field.type) for field in arrow))


def refuse_deep(field: NestedField) -> None:
    match field.field_type:
        case ListType(element_type=inner):
            inners = [inner]
        case MapType(key_type=key, value_type=value):
            inners = [key, value]
        case other:
            inners = [other]
    if not all(isinstance(inner, PrimitiveType) for inner in inners):
        raise CorruptError(f"column {field.name} is a {field.field_type}: K2 cannot rewrite it")


def narrow(kind: pa.DataType) -> pa.DataType:
    """Return the type with offsets of 32 bits, as K2 has it everywhere."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_large_list(kind):
        return pa.list_(narrow(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(narrow(kind.key_type), narrow(kind.item_type))
    return kind


def held_columns(schema: pa.Schema) -> dict[int, int]:
    """Return where each field id stands in a file.

    Raises:
        CorruptError: the file does not name its columns' ids.
    """
    ids = [(field.metadata or {}).get(FIELD_ID, b"") for field in schema]
    if not all(ids):
        raise CorruptError("the file's columns carry no field ids: another tool wrote it")
    return {int(field_id): at for at, field_id in enumerate(ids)}


def column_of(
    rows: pa.Table, at: int | None, field: NestedField, kind: pa.DataType
) -> pa.ChunkedArray | pa.Array:
    if at is not None:
        return rows.column(at).cast(kind)
    if field.required:
        raise CorruptError(f"the file has no column {field.name}")
    return pa.nulls(rows.num_rows, kind)


def read_rows(
    io: FileIO, location: str, whole: WholeRows, *, batch_rows: int
) -> Iterator[pa.Table]:
    """Yield a file's rows in its order, so many at a time.

    Raises:
        CorruptError: the file is not what the table says.
        OSError: it cannot be read.
    """
    with io.new_input(location).open() as stream:
        try:
            with pq.ParquetFile(stream, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=batch_rows, use_threads=False):
                    yield whole.shaped(pa.Table.from_batches([batch]))
        except (pa.ArrowInvalid, CorruptError) as error:
            raise CorruptError(f"cannot read {location}: {error}", file=location) from error
