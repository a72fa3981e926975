"""Rows of the table found by their ids: of few files, their row groups and columns alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO

from libs.lake.files.arrange import ints
from libs.lake.files.index import SnapshotIndex
from libs.lake.files.reading import held_columns
from libs.lake.ledger.claims import claims_of
from libs.lake.ledger.coverage import IdRange, common_span
from libs.lake.ledger.same_trade import Source
from libs.lake.table.naming import OwnColumns
from libs.market.errors import UnavailableError
from libs.market.trade import DAY_US
from libs.wire.schema import TRADE_SCHEMA

# A trade sent again may differ below the millisecond.
SLACK_US = 1_000

# The ids wanted of each symbol.
Wanted = Mapping[str, IdRange]


class HeldRows:
    """Looks for rows in the files of one snapshot.

    Raises UnavailableError where a file cannot be read.
    """

    def __init__(self, io: FileIO, index: SnapshotIndex) -> None:
        self._io = io
        self._index = index

    def near(self, rows: pa.Table, names: Sequence[str]) -> pa.Table:
        """Look where a trade sent again must be: in the files of its own time."""
        days = ints(rows["timestamp"]) // DAY_US
        paths: set[str] = set()
        for day in np.unique(days).tolist():
            of_day = rows.select(["symbol", "timestamp"]).filter(pa.array(days == day))
            time_us = ints(of_day["timestamp"])
            paths.update(
                file.path
                for file in self._index.select(
                    pc.unique(of_day["symbol"]).to_pylist(),
                    int(time_us.min()) - SLACK_US,
                    int(time_us.max()) + SLACK_US,
                )
            )
        return self._read(paths, rows, names)

    def anywhere(self, rows: pa.Table, names: Sequence[str]) -> pa.Table:
        """Look in the files of all times that the ids' ranges span."""
        paths: set[str] = set()
        for series, wanted in claims_of(rows).items():
            span = common_span(self._index.ledger.coverage.get(series, ()), wanted)
            if span is not None:
                start_us, end_us = span
                found = self._index.select([series.symbol], start_us, end_us + 1)
                paths.update(file.path for file in found)
        return self._read(paths, rows, names)

    def _read(self, paths: Iterable[str], rows: pa.Table, names: Sequence[str]) -> pa.Table:
        return in_files(self._io, sorted(paths), self._index.columns)(rows, names)


def in_files(io: FileIO, paths: Sequence[str], columns: OwnColumns) -> Source:
    """Return a source that looks in these files alone."""

    def read(rows: pa.Table, names: Sequence[str]) -> pa.Table:
        schema, wanted = pa.schema(map(TRADE_SCHEMA.field, names)), wanted_of(rows)
        try:
            tables = [read_file(io, path, columns, schema, wanted) for path in paths]
        except OSError as error:
            raise UnavailableError(f"a file of the table cannot be read: {error}") from error
        return pa.concat_tables([schema.empty_table(), *tables])

    return read


def wanted_of(rows: pa.Table) -> Wanted:
    spans: dict[str, IdRange] = {}
    for series, held in claims_of(rows).items():
        before = spans.get(series.symbol, IdRange(held[0].first, held[-1].last))
        spans[series.symbol] = IdRange(
            min(before.first, held[0].first), max(before.last, held[-1].last)
        )
    return spans


def read_file(
    io: FileIO, path: str, columns: OwnColumns, schema: pa.Schema, wanted: Wanted
) -> pa.Table:
    """Read columns of the row groups that may hold a wanted id."""
    with io.new_input(path).open() as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        at = held_columns(file.schema_arrow)
        ids = {name: columns.schema.find_field(name).field_id for name in schema.names}
        names = {name: file.schema_arrow.field(at[i]).name for name, i in ids.items() if i in at}
        groups = list(row_groups(file.metadata, names, wanted))
        found = file.read_row_groups(groups, columns=list(names.values()), use_threads=False)
    arrays = [
        found[names[field.name]].cast(field.type)
        if field.name in names
        else pa.nulls(found.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def row_groups(footer: pq.FileMetaData, names: Mapping[str, str], wanted: Wanted) -> Iterator[int]:
    """Yield the groups whose bounds leave room for a wanted id; those without bounds too."""
    for at in range(footer.num_row_groups):
        group = footer.row_group(at)
        bounds = {
            chunk.path_in_schema: chunk.statistics
            for chunk in map(group.column, range(group.num_columns))
        }
        symbol = bounds.get(names["symbol"])
        numbers = bounds.get(names.get("source_sequence", ""))
        if may_hold(symbol, numbers, wanted):
            yield at


def may_hold(symbol: pq.Statistics | None, numbers: pq.Statistics | None, wanted: Wanted) -> bool:
    if symbol is None or numbers is None or not (symbol.has_min_max and numbers.has_min_max):
        return True
    return any(
        symbol.min <= name <= symbol.max and numbers.min <= ids.last and ids.first <= numbers.max
        for name, ids in wanted.items()
    )
