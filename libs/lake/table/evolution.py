"""Columns that rows have and the table does not yet: added by a commit of their own.

The commit changes the schema and nothing else: no snapshot, so offsets and ledger stay as they
are. It is valid on the schema it was planned on; whoever loses the race finds the column there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AssertCurrentSchemaId,
    AssertLastAssignedFieldId,
    AssertTableUUID,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.types import (
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
)

from libs.lake.commits.patience import Patience
from libs.lake.table.catalog import TableStore
from libs.lake.table.column_types import iceberg_type
from libs.lake.table.naming import COLUMNS_KEY, column_ids, encode_ids
from libs.lake.table.tables import TRADES_SCHEMA
from libs.market.clock import Clock, SystemClock
from libs.market.errors import ConfigError
from libs.wire.schema import TRADE_SCHEMA

OWN_NAMES = tuple(field.name for field in TRADES_SCHEMA.fields)
# A column of the first type takes values of the second.
HOLDS = ((LongType(), IntegerType()), (DoubleType(), FloatType()))


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What to send; valid on the schema it was planned on alone."""

    requirements: tuple[TableRequirement, ...]
    updates: tuple[TableUpdate, ...]


def added_columns(rows: pa.Schema) -> list[pa.Field]:
    """Return the columns of rows that are not among a trade's own."""
    return [field for field in rows if field.name not in TRADE_SCHEMA.names]


def ensure_columns(
    store: TableStore,
    name: str,
    wanted: Sequence[pa.Field],
    *,
    patience: Patience,
    clock: Clock | None = None,
    on_added: Callable[[], None] = lambda: None,
) -> Table:
    """Return the table with these columns, adding what it lacks; ids are read back from it.

    Raises:
        UnavailableError: the outcome is not known; call again.
        ConflictError: others were faster each time; the same.
        ConfigError: the table has a column of that name and of a type that does not hold it.
    """

    def attempt(_: int) -> Table:
        while True:
            table = store.load_table(name)
            change = plan_columns(table.metadata, wanted) if wanted else None
            if change is None:
                return table
            store.commit_table(table, change.requirements, change.updates)
            on_added()

    return patience.until_landed(attempt, clock or SystemClock())


def plan_columns(metadata: TableMetadata, wanted: Iterable[pa.Field]) -> SchemaChange | None:
    """Decide how the wanted columns come into the table; None where they are all there.

    Raises:
        ConfigError: the table has a column of that name and of a type that does not hold it.
    """
    ids = column_ids(metadata, OWN_NAMES)
    fields = {field.field_id: field for field in metadata.schema().fields}
    before = (dict(ids), dict(fields))
    fresh = count(metadata.last_column_id + 1)
    for column in wanted:
        own = fields.get(ids[column.name]) if column.name in ids else None
        found = own or same_name(fields, ids, column)
        if found is None:
            found = new_field(column, free_name(column.name, fields.values()), fresh)
        fields[found.field_id] = widened(found, column)
        ids[column.name] = found.field_id
    if (ids, fields) == before:
        return None
    return change_of(metadata, ids, list(fields.values()), new_schema=fields != before[1])


def change_of(
    metadata: TableMetadata,
    ids: Mapping[str, int],
    fields: Sequence[NestedField],
    *,
    new_schema: bool,
) -> SchemaChange:
    updates: list[TableUpdate] = []
    if new_schema:
        schema = Schema(
            *fields,
            schema_id=max(old.schema_id for old in metadata.schemas) + 1,
            identifier_field_ids=metadata.schema().identifier_field_ids,
        )
        updates = [
            AddSchemaUpdate.model_validate({"schema": schema}),
            SetCurrentSchemaUpdate.model_validate({"schema-id": -1}),
        ]
    return SchemaChange(
        requirements=(
            AssertTableUUID(uuid=metadata.table_uuid),
            AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
            AssertLastAssignedFieldId.model_validate(
                {"last-assigned-field-id": metadata.last_column_id}
            ),
        ),
        updates=(*updates, SetPropertiesUpdate(updates={COLUMNS_KEY: encode_ids(ids)})),
    )


def same_name(
    fields: Mapping[int, NestedField], ids: Mapping[str, int], column: pa.Field
) -> NestedField | None:
    """Return a column that somebody has made for this one already."""
    taken = frozenset(ids.values())
    for field in fields.values():
        fits = field.name == column.name and field.field_id not in taken and not field.required
        if fits and holds(field.field_type, iceberg_type(column.type, count())):
            return field
    return None


def free_name(name: str, fields: Iterable[NestedField]) -> str:
    """Return a name that no column has: engines tell names apart by more than their case."""
    taken = {field.name.lower() for field in fields}
    names = (name, *(f"{name}_k2_{number}" for number in range(2, len(taken) + 3)))
    return next(free for free in names if free.lower() not in taken)


def new_field(column: pa.Field, name: str, fresh: count[int]) -> NestedField:
    return NestedField(next(fresh), name, iceberg_type(column.type, fresh), required=False)


def widened(field: NestedField, column: pa.Field) -> NestedField:
    """Return the field with a type that holds the column's values.

    Raises:
        ConfigError: there is no such type.
    """
    wanted = iceberg_type(column.type, count())
    if holds(field.field_type, wanted):
        return field
    if holds(wanted, field.field_type):
        return field.model_copy(update={"field_type": wanted})
    raise ConfigError(
        f"column {field.name} of the table is {field.field_type}, and {column.name} of the trades"
        f" is {wanted}: rename the table's column, and K2 adds its own",
        column=field.name,
    )


def holds(kind: IcebergType, other: IcebergType) -> bool:
    if isinstance(kind, ListType) and isinstance(other, ListType):
        return bool(kind.element_type == other.element_type)
    return kind == other or (kind, other) in HOLDS
