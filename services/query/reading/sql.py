"""SQL text for DuckDB, built from checked values alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
)

from libs.lake.files.index import FileEntry
from libs.lake.table.naming import OwnColumns
from services.query.asked import EARLIEST_US, LATEST_US, Selection
from services.query.offsets import Offsets

TYPES: Mapping[type[IcebergType], str] = {
    StringType: "VARCHAR",
    BinaryType: "BLOB",
    BooleanType: "BOOLEAN",
    IntegerType: "INTEGER",
    LongType: "BIGINT",
    FloatType: "FLOAT",
    DoubleType: "DOUBLE",
    TimestamptzType: "TIMESTAMPTZ",
}
PLACE_COLUMNS = ("kafka_topic", "kafka_partition", "kafka_offset")
# Columns that the conditions name.
CONDITION_COLUMNS = ("symbol", "exchange", "timestamp", *PLACE_COLUMNS)


def text(value: str) -> str:
    """Quote a text; DuckDB knows no escapes but the doubled quote."""
    return "'" + value.replace("'", "''") + "'"


def stamp(time_us: int) -> str:
    return f"make_timestamptz({time_us:d}::BIGINT)"


def identifier(name: str) -> str:
    """Quote a column's name: one that was added may be any word, SQL's own too."""
    return '"' + name.replace('"', '""') + '"'


def files_source(files: Sequence[FileEntry], columns: Iterable[str], own: OwnColumns) -> str:
    """Read these columns of files: by field id where the files differ in them, else by name.

    By id DuckDB fills with null what a file does not have, whatever it calls the rest. By name it
    takes two thirds of the time: 3.2 against 2.4 ms for an hour of 7 columns, 7.9 against 5.3 of
    all 19, medians.
    """
    names = tuple(dict.fromkeys(columns))
    paths = f"[{', '.join(text(file.path) for file in files)}]"
    late = own.late(names)
    if own.named_alike(names) and all(late <= file.held for file in files):
        return f"read_parquet({paths})"
    fields = ", ".join(field_of(own.schema.find_field(name)) for name in names)
    return f"read_parquet({paths}, schema = MAP {{{fields}}})"


def field_of(field: NestedField) -> str:
    name, kind = text(field.name), text(type_of(field.field_type))
    return f"{field.field_id:d}: {{name: {name}, type: {kind}, default_value: NULL}}"


def type_of(kind: IcebergType) -> str:
    """Name an Iceberg type in DuckDB's words."""
    match kind:
        case DecimalType():
            return f"DECIMAL({kind.precision},{kind.scale})"
        case ListType():
            return f"{type_of(kind.element_type)}[]"
        case MapType():
            return f"MAP({type_of(kind.key_type)}, {type_of(kind.value_type)})"
        case _:
            return TYPES[type(kind)]


def select_rows(
    files: Sequence[FileEntry],
    wanted: Selection,
    columns: Sequence[str],
    own: OwnColumns,
    *,
    bounded: bool,
) -> str:
    """Select the wanted rows of files; `bounded` where some may lie past the ceiling."""
    where = " AND ".join(conditions(wanted, bounded=bounded)) or "true"
    source = files_source(files, (*columns, *CONDITION_COLUMNS), own)
    return f"SELECT {quoted(tuple(columns))} FROM {source} WHERE {where}"  # noqa: S608


@lru_cache(maxsize=256)
def quoted(names: tuple[str, ...]) -> str:
    return ", ".join(map(identifier, names))


def rows_at(
    files: Sequence[FileEntry],
    offsets: Mapping[tuple[str, int], int],
    columns: Sequence[str],
    own: OwnColumns,
) -> str:
    """Select single rows by topic, partition and offset."""
    places = ", ".join(
        f"({text(topic)}, {partition:d}, {offset:d})"
        for (topic, partition), offset in offsets.items()
    )
    # The numbers alone are what row groups are skipped by.
    numbers = ", ".join(f"{offset:d}" for offset in offsets.values())
    where = f"kafka_offset IN ({numbers}) AND ({', '.join(PLACE_COLUMNS)}) IN ({places})"
    source = files_source(files, (*columns, *PLACE_COLUMNS), own)
    return f"SELECT {', '.join(columns)} FROM {source} WHERE {where}"  # noqa: S608


def conditions(wanted: Selection, *, bounded: bool) -> list[str]:
    found = []
    if wanted.symbol:
        found.append(f"symbol = {text(wanted.symbol)}")
    if wanted.exchange:
        found.append(f"exchange = {text(wanted.exchange)}")
    if wanted.times.start_us > EARLIEST_US:
        found.append(f"timestamp >= {stamp(wanted.times.start_us)}")
    if wanted.times.end_us < LATEST_US:
        found.append(f"timestamp < {stamp(wanted.times.end_us)}")
    if wanted.floor is not None:
        found.append(f"kafka_offset >= {offset_of_row(wanted.floor)}")
    if wanted.ceiling is not None and bounded:
        found.append(f"kafka_offset < {offset_of_row(wanted.ceiling)}")
    return found


def offset_of_row(offsets: Offsets) -> str:
    """Look up the row's partition; one that is not named stands at 0."""
    topics = " ".join(
        f"WHEN {text(topic)} THEN {case('kafka_partition', partitions)}"
        for topic, partitions in offsets.items()
        if partitions
    )
    return f"CASE kafka_topic {topics} ELSE 0 END" if topics else "0"


def case(column: str, results: Mapping[int, int]) -> str:
    whens = " ".join(f"WHEN {key:d} THEN {result:d}" for key, result in results.items())
    return f"CASE {column} {whens} ELSE 0 END"
