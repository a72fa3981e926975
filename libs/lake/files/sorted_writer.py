"""Sorted rows written as data files while they come: of the target size, in K2's own layout.

What a manifest says of a file is gathered on the way, so that no file has to be held whole.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import OutputFile
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import PrimitiveType

from libs.lake.commits.seam import TopicPartition
from libs.lake.files.arrange import FilePart, SymbolRun, coded, run_starts
from libs.lake.files.datafile import described
from libs.lake.files.layout import ROW_GROUP_ROWS, coded_columns, parquet_writer, row_groups
from libs.lake.files.reading import WholeRows
from libs.lake.files.statistics import FileStatistics, chunk_totals, encoded_bounds, leaf_ids
from libs.lake.table.durable import make_durable

PENDING_ROWS = 2 * ROW_GROUP_ROWS


@dataclass(slots=True)
class Tally:
    """Counts and extremes of the rows written so far."""

    schema: Schema
    rows: int = 0
    nulls: dict[int, int] = field(default_factory=dict)
    extremes: list[pa.Table] = field(default_factory=list)

    def add(self, rows: pa.Table) -> None:
        self.rows += rows.num_rows
        flat = [f for f in self.schema.fields if isinstance(f.field_type, PrimitiveType)]
        for column in flat:
            nulls = rows[column.name].null_count
            self.nulls[column.field_id] = self.nulls.get(column.field_id, 0) + nulls
        names = [column.name for column in flat]
        self.extremes.append(pa.table([extremes(rows[name]) for name in names], names=names))

    def statistics(self, footer: pq.FileMetaData) -> FileStatistics:
        known = pa.concat_tables(self.extremes)
        bounds = {
            column.field_id: encoded
            for column in self.schema.fields
            if column.name in known.column_names
            and (encoded := encoded_bounds(column, known[column.name])) is not None
        }
        sizes, values, offsets = chunk_totals(leaf_ids(list(self.schema.fields)), footer)
        return FileStatistics(
            record_count=self.rows,
            column_sizes=sizes,
            value_counts=values,
            null_value_counts=self.nulls,
            nan_value_counts={},
            lower_bounds={at: low for at, (low, _) in bounds.items()},
            upper_bounds={at: high for at, (_, high) in bounds.items() if high is not None},
            split_offsets=offsets,
        )


def extremes(column: pa.ChunkedArray) -> pa.Array:
    """Return the least and the greatest value; nulls where there is none."""
    found = pc.min_max(column)
    return pa.array([found["min"].as_py(), found["max"].as_py()], column.type)


class OpenFile:
    """One file being written."""

    def __init__(self, table: Table, partition: Record, schema: Schema, rows: pa.Schema) -> None:
        folder = table.spec().partition_to_path(partition, table.schema())
        self.location = table.location_provider().new_data_location(
            f"{folder}/{uuid.uuid4()}.parquet"
        )
        self._output: OutputFile = table.io.new_output(self.location)
        self._stream = self._output.create()
        self._writer = parquet_writer(self._stream, rows)
        self._tally = Tally(schema)

    @property
    def written_bytes(self) -> int:
        return self._stream.tell()

    def write(self, rows: pa.Table, plain: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
        self._tally.add(plain)

    def close(self) -> FileStatistics:
        self._writer.close()
        self._stream.close()
        return self._tally.statistics(self._writer.writer.metadata)

    def size_bytes(self) -> int:
        return len(self._output)

    def abandon(self) -> None:
        with suppress(OSError):
            self._writer.close()
            self._stream.close()


class SortedWriter:
    """Takes sorted rows of one day and bucket; files end at the target size."""

    def __init__(
        self,
        table: Table,
        whole: WholeRows,
        day: int,
        bucket: int,
        *,
        target_bytes: int,
        on_row_group: Callable[[], None],
    ) -> None:
        self._table = table
        self._whole = whole
        self._partition = Record(day, bucket)
        self._target_bytes = target_bytes
        self._on_row_group = on_row_group
        self._pending: list[pa.Table] = []
        self._open: OpenFile | None = None
        self._finished: list[DataFile] = []

    def add(self, rows: pa.Table) -> None:
        self._pending.append(rows)
        if sum(part.num_rows for part in self._pending) >= PENDING_ROWS:
            self._flush(whole=False)

    def finish(self) -> list[DataFile]:
        """Write what is left, and return the files, which are on the disk then."""
        self._flush(whole=True)
        self._end_file()
        make_durable(file.file_path for file in self._finished)
        return self._finished

    def discard(self) -> None:
        """Delete what was written: nobody has been told of it."""
        locations = [file.file_path for file in self._finished]
        if self._open is not None:
            self._open.abandon()
            locations.append(self._open.location)
        for location in locations:
            with suppress(OSError):
                self._table.io.delete(location)

    def _flush(self, *, whole: bool) -> None:
        """Write the row groups that are complete: the last one may grow yet."""
        if not self._pending:
            return
        rows = pa.concat_tables(self._pending).combine_chunks()
        groups = list(row_groups(part_of(rows)))
        complete = groups if whole else groups[:-1]
        held = coded_columns(rows, self._whole.schema)
        for start, stop in complete:
            self._write_group(held.slice(start, stop - start), rows.slice(start, stop - start))
        rest = complete[-1][1] if complete else 0
        self._pending = [rows.slice(rest)] if rest < rows.num_rows else []

    def _write_group(self, held: pa.Table, plain: pa.Table) -> None:
        if self._open is None:
            schema = self._whole.schema
            self._open = OpenFile(self._table, self._partition, schema, held.schema)
        self._open.write(held, plain)
        self._on_row_group()
        if self._open.written_bytes >= self._target_bytes:
            self._end_file()

    def _end_file(self) -> None:
        if self._open is None:
            return
        ended = self._open
        statistics = ended.close()
        self._open = None
        self._finished.append(
            described(self._table, ended.location, self._partition, ended.size_bytes(), statistics)
        )


def part_of(rows: pa.Table) -> FilePart:
    """Describe sorted rows by their symbols' runs."""
    symbol = coded(rows["symbol"])
    starts = run_starts(symbol.codes).tolist()
    runs = tuple(
        SymbolRun(symbol.values[symbol.codes[start]], start, stop)
        for start, stop in zip(starts, [*starts[1:], rows.num_rows], strict=True)
    )
    return FilePart(TopicPartition("", -1), 0, 0, runs)
