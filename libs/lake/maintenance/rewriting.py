"""Files written anew as fewer and larger ones, and the proof that nothing changed but the order.

Every input row is hashed as it is read, every output file is read again from the disk: both must
have the same rows, all columns, or nothing becomes of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from libs.lake.commits.seam import last_sequence_number
from libs.lake.files.merging import Cursor, merged
from libs.lake.files.reading import WholeRows, read_rows, whole_rows
from libs.lake.files.sorted_writer import SortedWriter
from libs.lake.maintenance.compaction import Job
from libs.lake.maintenance.content import Content, content_of
from libs.lake.maintenance.rewrite import Rewrite
from libs.market.errors import CorruptError

# Of all files together. With 16 files the process grows by some 90 MB; by 140 with 131,072 rows,
# which takes four fifths of the time, and by 65 with 16,384, which takes a third more.
ROWS_IN_MEMORY = 40_960
LARGEST_BATCH_ROWS = 16_384
SMALLEST_BATCH_ROWS = 512
READ_AGAIN_ROWS = 16_384


class ContentChangedError(CorruptError):
    """A rewrite does not hold what its inputs hold: it is not committed."""

    reason = "CONTENT_CHANGED"


@dataclass(frozen=True, slots=True)
class Pace:
    """What a rewrite does between two pieces: wait for ingest, or raise to give up.

    It is told how many rows were merged since.
    """

    between_pieces: Callable[[int], None] = lambda _rows: None


def rewrite_files(
    table: Table, job: Job, *, target_bytes: int, pace: Pace, now_us: Callable[[], int]
) -> Rewrite:
    """Merge a job's files into new ones and prove them equal; the table is not touched.

    `table` must have been loaded no earlier than the job was planned. Blocking.

    Raises:
        ContentChangedError: the new files do not hold the same rows.
        CorruptError: an input is not sorted, or not as the table says.
        OSError: a file cannot be read or written.
    """
    written_us, whole = now_us(), whole_rows(table.metadata)
    writer = SortedWriter(
        table,
        whole,
        job.partition.day,
        job.partition.bucket,
        target_bytes=target_bytes,
        on_row_group=lambda: pace.between_pieces(0),
    )
    finished = False
    try:
        before = merge_into(writer, table, job, whole, pace)
        files = writer.finish()
        refuse_change(job, before, content_of_files(table, files, whole, pace))
        finished = True
    finally:
        if not finished:
            writer.discard()
    return Rewrite(
        commit_id=f"compaction-{uuid.uuid4().hex}",
        removed=frozenset(file.path for file in job.files),
        added=tuple(files),
        written_us=written_us,
        sequence_number=last_sequence_number(table.metadata),
    )


def merge_into(
    writer: SortedWriter, table: Table, job: Job, whole: WholeRows, pace: Pace
) -> Content:
    """Merge the job's files into the writer; return what was read."""
    tally = Tally()
    batch_rows = batch_rows_for(len(job.files))
    cursors = [
        Cursor(
            file.path, tally.counting(read_rows(table.io, file.path, whole, batch_rows=batch_rows))
        )
        for file in job.files
    ]
    for rows in merged(cursors):
        writer.add(rows)
        pace.between_pieces(rows.num_rows)
    return tally.content


class Tally:
    """Adds up the content of rows that pass by."""

    def __init__(self) -> None:
        self.content = Content()

    def counting(self, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for rows in batches:
            self.content += content_of(rows)
            yield rows


def batch_rows_for(files: int) -> int:
    """Return how many rows of each file to hold, so that all together fit in memory."""
    return max(SMALLEST_BATCH_ROWS, min(LARGEST_BATCH_ROWS, ROWS_IN_MEMORY // max(1, files)))


def content_of_files(table: Table, files: list[DataFile], whole: WholeRows, pace: Pace) -> Content:
    """Read files from where they lie, and return what they hold."""
    found = Content()
    for file in files:
        for rows in read_rows(table.io, file.file_path, whole, batch_rows=READ_AGAIN_ROWS):
            found += content_of(rows)
            pace.between_pieces(0)
    return found


def refuse_change(job: Job, before: Content, after: Content) -> None:
    if before.rows != job.rows:
        raise ContentChangedError(
            f"the files of {job.partition} hold {before.rows} rows, but their manifests say"
            f" {job.rows}: nothing was changed"
        )
    if before != after:
        raise ContentChangedError(
            f"compacting {job.partition} would change it ({before.rows} rows before,"
            f" {after.rows} after, other content): nothing was changed",
            partition=str(job.partition),
        )
