"""Data files: laid out for the queries, written once under a name of their own.

An object store cannot rename: a file is written once, under a UUID, and is either in a committed
manifest or nobody's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from libs.lake.commits.commit import LakeFile
from libs.lake.files.arrange import FilePart, arrange, ints
from libs.lake.files.layout import (
    ROW_GROUP_ROWS,
    coded_columns,
    parquet_writer,
    reordered,
    row_groups,
    with_own_symbols,
)
from libs.lake.files.statistics import FileStatistics, file_statistics
from libs.lake.ledger.claims import claims_of
from libs.lake.ledger.coverage import Coverage
from libs.lake.table.durable import make_durable
from libs.lake.table.tables import refuse_other_shape


def nothing() -> None:
    """Do nothing: nobody asked to be told."""


def write_trades(
    table: Table,
    rows: pa.Table | pa.RecordBatch,
    *,
    own: Schema | None = None,
    claims: Coverage | None = None,
    on_row_group: Callable[[], None] = nothing,
) -> list[LakeFile]:
    """Write rows of TRADE_SCHEMA as data files of `table`, on the disk when this returns.

    One file per (topic, partition, bucket, day). `claims` are the rows' ids, and `own` K2's columns
    of this table, where they are known. `on_row_group` is told of each row group, while its file is
    still being written.

    Raises:
        ConfigError: the table's columns or partitions are not K2's.
    """
    if rows.num_rows == 0:
        return []
    columns = own or refuse_other_shape(table)
    unsorted = pa.table(rows) if isinstance(rows, pa.RecordBatch) else rows
    order, parts = arrange(unsorted)
    arranged = reordered(coded_columns(unsorted, columns), order)
    known = claims if len(parts) == 1 else None
    files = [write_part(table, columns, arranged, part, known, on_row_group) for part in parts]
    make_durable(file.data_file.file_path for file in files)
    return files


def write_part(
    table: Table,
    own: Schema,
    arranged: pa.Table,
    part: FilePart,
    claims: Coverage | None,
    on_row_group: Callable[[], None],
) -> LakeFile:
    partition = Record(part.day, part.bucket)
    folder = table.spec().partition_to_path(partition, table.schema())
    location = table.location_provider().new_data_location(f"{folder}/{uuid.uuid4()}.parquet")
    rows = arranged.slice(part.start, part.stop - part.start)
    footer, size_bytes = write_parquet(table, location, rows, part, on_row_group)
    statistics = file_statistics(own, rows, footer)
    data_file = described(table, location, partition, size_bytes, statistics)
    offsets = ints(rows["kafka_offset"])
    low, high = int(offsets.min()), int(offsets.max())
    return LakeFile(
        data_file, part.position, low, high, claims_of(rows) if claims is None else claims
    )


def described(
    table: Table, location: str, partition: Record, size_bytes: int, statistics: FileStatistics
) -> DataFile:
    """Return what a manifest says of a file of ours."""
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=partition,
        file_size_in_bytes=size_bytes,
        sort_order_id=table.sort_order().order_id,
        equality_ids=None,
        key_metadata=None,
        **statistics,
    )
    data_file.spec_id = table.spec().spec_id
    return data_file


def write_parquet(
    table: Table,
    location: str,
    rows: pa.Table,
    part: FilePart,
    on_row_group: Callable[[], None],
) -> tuple[pq.FileMetaData, int]:
    output = table.io.new_output(location)
    with output.create() as stream:
        with parquet_writer(stream, rows.schema) as writer:
            for start, stop in row_groups(part):
                group = with_own_symbols(rows.slice(start, stop - start), part, part.start + start)
                writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
                on_row_group()
        footer = writer.writer.metadata
    return footer, len(output)
