"""The types that an added column can have: Arrow's and Iceberg's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    StringType,
)

from libs.wire.schema import TEXTS

TYPES: Mapping[pa.DataType, IcebergType] = {
    pa.string(): StringType(),
    pa.binary(): BinaryType(),
    pa.bool_(): BooleanType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
}
_ARROW = {type(iceberg): arrow for arrow, iceberg in TYPES.items()}


def iceberg_type(kind: pa.DataType, fresh: Iterator[int]) -> IcebergType:
    """Return the table's type; a list's elements take a fresh field id."""
    if kind == TEXTS:
        return ListType(next(fresh), StringType(), element_required=True)
    return TYPES[kind]


def arrow_type(kind: IcebergType) -> pa.DataType | None:
    """Return the rows' type, None where K2 never adds such a column."""
    return TEXTS if isinstance(kind, ListType) else _ARROW.get(type(kind))
