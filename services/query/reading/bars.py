"""Bars: open, high, low, close, volume, notional and VWAP per interval, over files and tail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from libs.lake.commits.seam import TopicPartition
from libs.lake.files.index import FileEntry
from libs.market.errors import InvalidError
from services.query.answers import full_notional
from services.query.asked import Order, Selection, Times, stored_columns
from services.query.reading.engine import Reader
from services.query.reading.folded import folded
from services.query.reading.plan import Bands, Density
from services.query.reading.rows import (
    WIDER,
    Listing,
    files_in,
    files_of,
    files_sql,
    tail_sources,
)
from services.query.state import State
from services.query.tail.rows import rows_of

FIRST_BAND_ROWS = 1_000_000
INPUTS = ("price", "quantity", "notional")
FOLDED = (*INPUTS, "timestamp", "kafka_offset")
# 20 MB of them; DuckDB sums more up without holding them all.
MOST_FOLDED_ROWS = 250_000
TAIL_NAME = "tail_rows"
# A row's place in the total order; of one partition one number, which takes 1 ms of 8 less.
PLACE = "epoch_us(timestamp)::HUGEINT * 9223372036854775808 + kafka_offset"
ANY_PLACE = "(timestamp, kafka_topic, kafka_partition, kafka_offset)"
NO_BARS = pa.table({})


@dataclass(frozen=True, slots=True)
class BarsAsked:
    wanted: Selection
    interval_us: int
    limit: int


def newest_bars(state: State, asked: BarsAsked, reader: Reader) -> pa.Table:
    """Return the newest bars, at most `limit`, oldest first. A bar takes its whole interval."""
    listing = Listing(asked.wanted, INPUTS, Order.NEWEST_FIRST)
    files = files_of(state, listing)
    bands = Bands([*files, *tail_sources(state, listing)], asked.wanted.times, listing.order)
    found: list[pa.Table] = []
    want, count = FIRST_BAND_ROWS, 0
    end_us = asked.wanted.times.end_us
    while count < asked.limit and (band := bands.next(want)) is not None:
        start_us = max(whole_interval(band.start_us, asked), asked.wanted.times.start_us)
        if start_us >= end_us:
            continue
        bars = band_bars(state, listing.within(Times(start_us, end_us)), files, asked, reader)
        # Before the first trade there is neither file nor tail, and so no column either.
        found += [bars] if bars.num_rows else []
        count, end_us, want = count + bars.num_rows, start_us, want * WIDER
    return pa.concat_tables(found[::-1]).slice(max(0, count - asked.limit)) if found else NO_BARS


def whole_interval(time_us: int, asked: BarsAsked) -> int:
    return time_us - time_us % asked.interval_us


def band_bars(
    state: State,
    listing: Listing,
    files: Sequence[FileEntry],
    asked: BarsAsked,
    reader: Reader,
) -> pa.Table:
    inside = files_in(files, listing.wanted.times)
    alone = of_one_partition(state, listing, inside)
    if alone and expected_rows(state, listing, inside) <= MOST_FOLDED_ROWS:
        rows = few_rows(state, listing, inside, reader)
        if rows is not None:
            return bars_in_memory(rows, asked, reader)
    return summed_bars(state, listing, inside, asked, reader, PLACE if alone else ANY_PLACE)


def of_one_partition(state: State, listing: Listing, files: Sequence[FileEntry]) -> bool:
    """Say whether a number tells the rows' order; a symbol has one partition in each topic."""
    positions = {file.position for file in files} | tail_positions(state, listing)
    return len(positions) <= 1 and None not in positions


def expected_rows(state: State, listing: Listing, files: Sequence[FileEntry]) -> float:
    """Estimate the rows to read: the tail's, and those of all symbols in the files."""
    in_files = Density.of(files).expected(listing.wanted.times) if files else 0.0
    return in_files + sum(source.rows for source in tail_sources(state, listing))


def few_rows(
    state: State, listing: Listing, files: Sequence[FileEntry], reader: Reader
) -> pa.Table | None:
    """Read the rows themselves; None where they turn out to be too many."""
    source, tables = union(state, listing, files, FOLDED)
    if not source:
        return NO_BARS
    limit = f"SELECT * FROM ({source}) LIMIT {MOST_FOLDED_ROWS + 1}"  # noqa: S608
    rows = reader.read(limit, tables)
    return rows if rows.num_rows <= MOST_FOLDED_ROWS else None


def bars_in_memory(rows: pa.Table, asked: BarsAsked, reader: Reader) -> pa.Table:
    """Fold rows, in a seventh of the time DuckDB sums them in; it has those of larger numbers."""
    if not rows.num_rows:
        return NO_BARS
    bars = folded(rows, asked.interval_us)
    return filled_bars(rows, asked, reader, PLACE) if bars is None else bars


def summed_bars(
    state: State,
    listing: Listing,
    files: Sequence[FileEntry],
    asked: BarsAsked,
    reader: Reader,
    place: str,
) -> pa.Table:
    """Have DuckDB sum rows up, of whatever number and size they are."""
    source, tables = union(state, listing, files, stored_columns(listing.columns))
    if not source:
        return NO_BARS
    with summable():
        bars = reader.read(bars_sql(source, asked.interval_us, place), tables)
    if not any(bars["without_notional"].to_pylist()):
        return bars
    return filled_bars(reader.read(source, tables), asked, reader, place)


def filled_bars(rows: pa.Table, asked: BarsAsked, reader: Reader, place: str) -> pa.Table:
    """Have DuckDB sum up rows that lie in memory, of which some have no notional yet."""
    tables = {TAIL_NAME: with_notional(rows)}
    with summable():
        return reader.read(bars_sql(f"FROM {TAIL_NAME}", asked.interval_us, place), tables)


@contextmanager
def summable() -> Iterator[None]:
    """Name what was asked for where DuckDB cannot sum it up. Raises InvalidError."""
    try:
        yield
    except duckdb.OutOfRangeException as error:
        raise InvalidError(
            "a bar's sums need more than 38 digits: ask for a shorter interval", field="interval"
        ) from error


def union(
    state: State, listing: Listing, files: Sequence[FileEntry], columns: Sequence[str]
) -> tuple[str, dict[str, pa.Table]]:
    """Return SQL for the rows of files and tail, and the tables it names."""
    parts, tables = [], {}
    if files:
        parts.append(files_sql(state, listing, files, columns))
    batches = rows_of(state.tail, listing.wanted, columns)
    if batches:
        tables[TAIL_NAME] = pa.Table.from_batches(batches)
        parts.append(f"SELECT {', '.join(columns)} FROM {TAIL_NAME}")  # noqa: S608
    return " UNION ALL ".join(parts), tables


def tail_positions(state: State, listing: Listing) -> set[TopicPartition | None]:
    batches = rows_of(state.tail, listing.wanted, ("kafka_topic", "kafka_partition"))
    return {
        TopicPartition(batch["kafka_topic"][0].as_py(), partition)
        for batch in batches
        for partition in batch["kafka_partition"].unique().to_pylist()
    }


def bars_sql(source: str, interval_us: int, place: str) -> str:
    """Aggregate rows to bars; open and close go by the rows' total order, `place`."""
    return f"""
        SELECT epoch_us(timestamp) // {interval_us:d} * {interval_us:d} AS time_us,
               arg_min(price, {place}) AS open, max(price) AS high, min(price) AS low,
               arg_max(price, {place}) AS close, sum(quantity) AS volume,
               sum(notional) AS notional, count(*) AS trades,
               count(*) - count(notional) AS without_notional
        FROM ({source}) GROUP BY 1 ORDER BY 1"""  # noqa: S608


def with_notional(rows: pa.Table) -> pa.Table:
    at = rows.schema.get_field_index("notional")
    return rows.set_column(at, "notional", full_notional(rows))
