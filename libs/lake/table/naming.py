"""Which of a table's columns are K2's, by field id: other tools may add and rename columns. Pure.

K2 keeps its own name for each column and finds it by the id it has in the table. The ids of what
K2 added are in the table's property `k2.columns`, set by the commit that adds them; before there
is one, a column is the oldest that ever had its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import ListType, NestedField

from libs.lake.table.column_types import arrow_type
from libs.market.errors import CorruptError

COLUMNS_KEY = "k2.columns"


@dataclass(frozen=True, slots=True)
class OwnColumns:
    """K2's columns as the table has them now, under K2's names."""

    schema: Schema
    # Whatever file has these has them under K2's name; the others are read by field id.
    alike: frozenset[str]
    # Columns that every file has: they were there from the first schema on.
    always: frozenset[str]

    # Those beyond the ones that the table began with.
    added: tuple[pa.Field, ...] = ()

    def has(self, name: str) -> bool:
        return any(field.name == name for field in self.schema.fields)

    def named_alike(self, columns: Iterable[str]) -> bool:
        return self.alike.issuperset(columns)

    def late(self, columns: Iterable[str]) -> frozenset[int]:
        """Return the leaf ids of those that older files do not have."""
        missing = frozenset(columns) - self.always
        fields = (self.schema.find_field(name) for name in missing)
        return frozenset(leaf_id(field) for field in fields)


def own_columns(metadata: TableMetadata, names: Iterable[str]) -> OwnColumns:
    """Return K2's columns: `names`, and what it has added since; those that are dropped are not.

    Raises:
        CorruptError: the property `k2.columns` is not what K2 writes.
    """
    began = frozenset(names)
    ids = column_ids(metadata, began)
    current = {field.field_id: field for field in metadata.schema().fields}
    fields = {name: current[field_id] for name, field_id in ids.items()}
    schemas = [{field.field_id: field for field in old.fields} for old in metadata.schemas]
    alike = (name for name, field in fields.items() if is_alike(name, field, schemas))
    always = (name for name, field in fields.items() if all(field.field_id in s for s in schemas))
    return OwnColumns(
        Schema(*(renamed(field, name) for name, field in fields.items())),
        frozenset(alike),
        frozenset(always),
        tuple(added_field(name, field) for name, field in fields.items() if name not in began),
    )


def added_field(name: str, field: NestedField) -> pa.Field:
    """Raises CorruptError where it is none that K2 adds."""
    kind = arrow_type(field.field_type)
    if kind is None:
        raise CorruptError(f"column {field.name} is {field.field_type}, which K2 does not add")
    return pa.field(name, kind)


def fresh_columns(schema: Schema) -> OwnColumns:
    """Return the columns of a table that never had others."""
    names = frozenset(field.name for field in schema.fields)
    return OwnColumns(schema, alike=names, always=names)


def column_ids(metadata: TableMetadata, names: Iterable[str]) -> dict[str, int]:
    """Return K2's names and the field ids they stand for, in the order of the ids."""
    live = {field.field_id for field in metadata.schema().fields}
    known = decode_ids(metadata.properties.get(COLUMNS_KEY, "{}"))
    found = {name: field_id for name, field_id in known.items() if field_id in live}
    wanted = frozenset(names)
    for schema in sorted(metadata.schemas, key=lambda schema: schema.schema_id):
        for field in schema.fields:
            if field.name in wanted and field.field_id in live:
                found.setdefault(field.name, field.field_id)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def is_alike(name: str, field: NestedField, schemas: Iterable[Mapping[int, NestedField]]) -> bool:
    """Say whether every schema that has the column has it under this name and as this type."""
    versions = (schema.get(field.field_id) for schema in schemas)
    return all(
        old is None or (old.name == name and old.field_type == field.field_type) for old in versions
    )


def leaf_id(field: NestedField) -> int:
    """Return the id that a data file's counts have for the column; a list's are its elements'."""
    kind = field.field_type
    return kind.element_id if isinstance(kind, ListType) else field.field_id


def renamed(field: NestedField, name: str) -> NestedField:
    return field if field.name == name else field.model_copy(update={"name": name})


def encode_ids(ids: Mapping[str, int]) -> str:
    return msgspec.json.encode(ids).decode()


@lru_cache(maxsize=16)
def decode_ids(text: str) -> Mapping[str, int]:
    try:
        return msgspec.json.decode(text, type=dict[str, int])
    except msgspec.DecodeError as error:
        raise CorruptError(
            f"the table's property {COLUMNS_KEY} is damaged: set it to the JSON object of K2's"
            " column names and their field ids",
            property=COLUMNS_KEY,
        ) from error
