"""Rows of a state in their total order: data files and tail, merged band by band.

The order is (timestamp, kafka_topic, kafka_partition, kafka_offset): no two rows are equal in it,
so that pages neither repeat nor miss one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from libs.lake.files.index import FileEntry
from libs.wire.schema import TRADE_SCHEMA
from services.query.asked import Order, RowKey, Selection, Times, stored_columns
from services.query.offsets import ahead, offset_at
from services.query.reading import sql
from services.query.reading.engine import Reader
from services.query.reading.plan import Bands
from services.query.state import State
from services.query.tail.rows import rows_of

# A symbol has a small part of its files' rows: the first band expects more than is wanted, and
# each further one is wider.
FIRST_BAND_FACTOR = 16
WIDER = 4
SCAN_BAND_ROWS = 100_000


class TailRows(NamedTuple):
    """A batch of tail rows as a source with time bounds."""

    rows: int
    time_min_us: int
    time_max_us: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Which rows, which columns, in which order, from where on.

    No column means all of them: `services.query.added.answered` says which those are in a state,
    and of what type those are that were `added` to the table.
    """

    wanted: Selection
    columns: tuple[str, ...]
    order: Order
    after: RowKey | None = None
    added: tuple[pa.Field, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The stored columns it needs."""
        return stored_schema(stored_columns(self.columns), self.added)

    @property
    def newest(self) -> bool:
        return self.order is Order.NEWEST_FIRST

    @property
    def times(self) -> Times:
        """Times that rows after the key can have; the key's own is one of them."""
        times = self.wanted.times
        if self.after is None:
            return times
        if self.newest:
            return Times(times.start_us, min(times.end_us, self.after.timestamp_us + 1))
        return Times(max(times.start_us, self.after.timestamp_us), times.end_us)

    def within(self, times: Times) -> Listing:
        return replace(self, wanted=replace(self.wanted, times=times))


def first_rows(state: State, listing: Listing, limit: int, reader: Reader) -> pa.Table:
    """Return the first `limit` rows, in order, with the stored columns the asked ones need."""
    files = files_of(state, listing)
    bands = Bands(files, listing.times, listing.order)
    want = limit * FIRST_BAND_FACTOR
    found = [ahead_of_files(state, listing, files, bands, limit)]
    missing = limit - found[0].num_rows
    while missing > 0 and (band := bands.next(want)) is not None:
        found.append(band_rows(state, listing.within(band), files, reader, most=missing))
        missing -= found[-1].num_rows
        want *= WIDER
    return pa.concat_tables(found)


def answered_by_tail(state: State, listing: Listing, limit: int) -> pa.Table | None:
    """Return the first rows where the tail alone has them, all of them past every data file."""
    files = files_of(state, listing)
    bands = Bands(files, listing.times, listing.order)
    found = ahead_of_files(state, listing, files, bands, limit)
    return found if found.num_rows == limit or not files else None


def scan(state: State, listing: Listing) -> Iterator[Listing]:
    """Return the listing in bands of a size that fits in memory; read each with `band_rows`."""
    files = files_of(state, listing)
    tail = tail_sources(state, listing)
    bands = Bands([*files, *tail], listing.times, listing.order)
    while (band := bands.next(SCAN_BAND_ROWS)) is not None:
        yield listing.within(band)


def files_of(state: State, listing: Listing) -> list[FileEntry]:
    symbols = (listing.wanted.symbol,) if listing.wanted.symbol else ()
    times, wanted = listing.times, listing.wanted
    files = state.index.select(symbols, times.start_us, times.end_us)
    if wanted.floor is None and wanted.ceiling is None:
        return files
    return [file for file in files if within_offsets(file, wanted)]


def within_offsets(file: FileEntry, wanted: Selection) -> bool:
    """Say whether a file may hold rows between the offset bounds."""
    if file.position is None:
        return True
    floor, ceiling = wanted.floor, wanted.ceiling
    if floor is not None and file.offset_max < offset_at(floor, *file.position):
        return False
    return ceiling is None or file.offset_min < offset_at(ceiling, *file.position)


def tail_sources(state: State, listing: Listing) -> list[TailRows]:
    wanted = replace(listing.wanted, times=listing.times)
    batches = rows_of(state.tail, wanted, ("timestamp",))
    stamps = [batch["timestamp"].view(pa.int64()).to_numpy() for batch in batches]
    return [TailRows(len(times), int(times[0]), int(times[-1])) for times in stamps]


def ahead_of_files(
    state: State, listing: Listing, files: Sequence[FileEntry], bands: Bands, limit: int
) -> pa.Table:
    """Take the band that lies past every file's rows, where the tail answers alone."""
    band: Times | None = None
    if not files:
        band = bands.next(limit)
    elif listing.newest:
        band = bands.next_until(max(file.time_max_us for file in files) + 1)
    else:
        band = bands.next_until(min(file.time_min_us for file in files))
    if band is None:
        return in_order([], listing, limit)
    return in_order(tail_rows(state, listing.within(band), limit), listing, limit)


def band_rows(
    state: State,
    listing: Listing,
    files: Sequence[FileEntry],
    reader: Reader,
    *,
    most: int | None = None,
) -> pa.Table:
    """Return a band's rows in order: what its files hold and what the tail does."""
    inside = files_in(files, listing.wanted.times)
    tables = [pa.Table.from_batches([batch]) for batch in tail_rows(state, listing, most)]
    if inside:
        tables.append(file_rows(state, listing, inside, reader))
    return in_order(tables, listing, most)


def files_in(files: Sequence[FileEntry], times: Times) -> list[FileEntry]:
    return [
        file
        for file in files
        if file.time_min_us < times.end_us and file.time_max_us >= times.start_us
    ]


def file_rows(
    state: State, listing: Listing, files: Sequence[FileEntry], reader: Reader
) -> pa.Table:
    schema, own = listing.schema, state.index.columns
    if listing.added:
        schema = pa.schema([field for field in schema if own.has(field.name)])
    return reader.read(files_sql(state, listing, files, schema.names)).cast(schema)


def files_sql(
    state: State, listing: Listing, files: Sequence[FileEntry], columns: Sequence[str]
) -> str:
    """Return SQL for a listing's rows of some files."""
    ceiling = listing.wanted.ceiling
    bounded = ceiling is not None and bool(ahead(state.seam, ceiling))
    return sql.select_rows(files, listing.wanted, columns, state.index.columns, bounded=bounded)


def tail_rows(state: State, listing: Listing, most: int | None) -> list[pa.RecordBatch]:
    columns = stored_columns(listing.columns)
    if most is not None and listing.after is not None:
        most += ties(state, listing)
    return rows_of(state.tail, listing.wanted, columns, most=most, newest=listing.newest)


def ties(state: State, listing: Listing) -> int:
    """Count tail rows with the key's own timestamp: those the page before may have had."""
    assert listing.after is not None  # noqa: S101
    at = listing.after.timestamp_us
    wanted = replace(listing.wanted, times=Times(at, at + 1))
    return sum(batch.num_rows for batch in rows_of(state.tail, wanted, ("timestamp",)))


def in_order(
    parts: Sequence[pa.RecordBatch | pa.Table], listing: Listing, limit: int | None
) -> pa.Table:
    """Merge rows into one table in the listing's order, past its key, at most `limit`."""
    if not parts:
        return listing.schema.empty_table()
    table = joined(parts, listing)
    keys = [ints(table, "timestamp"), topic_ranks(table), ints(table, "kafka_partition")]
    keys.append(ints(table, "kafka_offset"))
    order = np.lexsort(keys[::-1])
    if listing.newest:
        order = order[::-1]
    if listing.after is not None:
        order = past(order, keys, topics_of(table), listing.after, newest=listing.newest)
    order = order[:limit]
    untouched = len(order) == table.num_rows and bool((np.diff(order) == 1).all())
    return table if untouched else table.take(pa.array(order))


def joined(parts: Sequence[pa.RecordBatch | pa.Table], listing: Listing) -> pa.Table:
    """Make one table of all parts: null where one is older than an added column."""
    tables = [
        part if isinstance(part, pa.Table) else pa.Table.from_batches([part]) for part in parts
    ]
    if tables and not listing.added:
        return pa.concat_tables(tables).combine_chunks()
    padded = [listing.schema.empty_table(), *tables]
    return pa.concat_tables(padded, promote_options="permissive").combine_chunks()


@lru_cache(maxsize=256)
def stored_schema(names: tuple[str, ...], added: tuple[pa.Field, ...]) -> pa.Schema:
    types = {field.name: field for field in added}
    return pa.schema([types[n] if n in types else TRADE_SCHEMA.field(n) for n in names])


def past(
    order: npt.NDArray[np.int64],
    keys: Sequence[npt.NDArray[np.int64]],
    topics: Sequence[str],
    after: RowKey,
    *,
    newest: bool,
) -> npt.NDArray[np.int64]:
    """Drop from the order what is not past the key; only rows of its timestamp can be."""
    times, ranks, partitions, offsets = keys
    tied = np.flatnonzero(times[order] == after.timestamp_us)
    passed = []
    for at, row in zip(tied.tolist(), order[tied].tolist(), strict=True):
        topic = topics[int(ranks[row])]
        key = RowKey(after.timestamp_us, topic, int(partitions[row]), int(offsets[row]))
        if not beyond(key, after, newest=newest):
            passed.append(at)
    return np.delete(order, passed)


def beyond(key: RowKey, after: RowKey, *, newest: bool) -> bool:
    return key < after if newest else key > after


def key_of(table: pa.Table, row: int) -> RowKey:
    return RowKey(
        int(ints(table, "timestamp")[row]),
        table["kafka_topic"][row].as_py(),
        table["kafka_partition"][row].as_py(),
        table["kafka_offset"][row].as_py(),
    )


def topics_of(table: pa.Table) -> list[str]:
    topics: list[str] = table["kafka_topic"].unique().to_pylist()
    return sorted(topics)


def topic_ranks(table: pa.Table) -> npt.NDArray[np.int64]:
    topics = topics_of(table)
    if len(topics) < 2:
        return np.zeros(table.num_rows, np.int64)
    column = whole(table["kafka_topic"]).dictionary_encode()
    ranks = np.array([topics.index(topic) for topic in column.dictionary.to_pylist()], np.int64)
    ranked: npt.NDArray[np.int64] = ranks[column.indices.to_numpy()]
    return ranked


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array: `combine_chunks` copies even what is one already."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def ints(table: pa.Table, column: str) -> npt.NDArray[np.int64]:
    values = whole(table[column])
    if pa.types.is_timestamp(values.type):
        values = values.view(pa.int64())
    numbers: npt.NDArray[np.int64] = values.to_numpy()
    return numbers
