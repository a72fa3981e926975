"""What a query is going to read, estimated from the index: no file is opened for it.

Rows of files are taken to spread evenly over the file's times; those of a symbol are at most as
many as the ledger says are held of it in these times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from libs.lake.files.index import FileEntry
from libs.lake.ledger.coverage import Coverage, Ids
from libs.wire.schema import TRADE_SCHEMA
from services.query.asked import Order, Selection, Times
from services.query.reading.bars import INPUTS, BarsAsked
from services.query.reading.plan import Density
from services.query.reading.rows import FIRST_BAND_FACTOR, Listing, files_of, tail_sources
from services.query.state import State

# Parquet's footer and the pages it needs, for a file of which only statistics are read.
FOOTER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """Rows to look at, and bytes of data files and tail that hold them."""

    rows: int = 0
    bytes: int = 0
    files: int = 0

    def __str__(self) -> str:
        return f"{self.rows:,} rows, {_size(self.bytes)} in {self.files:,} data files"


@dataclass(frozen=True, slots=True)
class _HeldIds:
    """A range of held ids as a source of rows."""

    ids: Ids

    @property
    def rows(self) -> int:
        return self.ids.last - self.ids.first + 1

    @property
    def time_min_us(self) -> int:
        return self.ids.first_us

    @property
    def time_max_us(self) -> int:
        return self.ids.last_us


def cost_of(state: State, listing: Listing, most_rows: int | None = None) -> Cost:
    """Estimate a listing of which at most `most_rows` are wanted; None is all of them."""
    files, times = files_of(state, listing), listing.times
    tail_rows = sum(source.rows for source in tail_sources(state, listing))
    in_files = _expected(files, times)
    wanted_rows = min(in_files, _held_of(state.index.ledger.coverage, listing.wanted, in_files))
    if most_rows is not None:
        wanted_rows = min(wanted_rows, float(most_rows) * FIRST_BAND_FACTOR)
        tail_rows = min(tail_rows, most_rows)
    size_bytes = sum(file.size_bytes for file in files)
    stored_rows = max(1, sum(file.rows for file in files))
    columns = len(listing.schema.names) / len(TRADE_SCHEMA.names) if listing.columns else 1
    return Cost(
        round(wanted_rows) + tail_rows,
        round(wanted_rows * size_bytes / stored_rows * columns)
        + tail_rows * _tail_row_bytes(state),
        len(files),
    )


def cost_of_footers(state: State) -> Cost:
    """Estimate what naming every symbol reads."""
    files = len(state.index.files)
    return Cost(0, files * FOOTER_BYTES, files)


def cost_of_bars(state: State, asked: BarsAsked) -> Cost:
    """Estimate bars: as many intervals from the newest end, for while trades are dense."""
    times = newest_times(state, asked.wanted, span_us(asked))
    return cost_of(state, Listing(replace(asked.wanted, times=times), INPUTS, Order.NEWEST_FIRST))


def span_us(asked: BarsAsked) -> int:
    """Return the longest time the bars can reach over, gaps aside."""
    times = asked.wanted.times
    return min(times.end_us - times.start_us, asked.interval_us * asked.limit)


def newest_times(state: State, wanted: Selection, span_us: int) -> Times:
    """Return the times that hold the newest rows of a span; nothing older is looked at first."""
    ends = [file.time_max_us for file in state.index.files]
    newest_us = max(ends, default=wanted.times.end_us)
    start_us = max(wanted.times.start_us, min(newest_us, wanted.times.end_us) - span_us)
    return Times(start_us, wanted.times.end_us)


def _expected(files: Sequence[FileEntry], times: Times) -> float:
    return Density.of(files).expected(times) if files else 0.0


def _held_of(coverage: Coverage, wanted: Selection, otherwise: float) -> float:
    """Count a symbol's committed rows in the times, where ids tell; else `otherwise`."""
    if not wanted.symbol:
        return otherwise
    held = [
        _HeldIds(ids)
        for series, ranges in coverage.items()
        if series.symbol == wanted.symbol and wanted.exchange in ("", series.exchange)
        for ids in ranges
    ]
    return Density.of(held).expected(wanted.times) if held else otherwise


def _tail_row_bytes(state: State) -> int:
    tail = state.tail
    return (tail.bytes_in_memory + tail.bytes_on_disk) // max(1, tail.rows)


def _size(size_bytes: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:,} {unit}"
        size_bytes //= 1024
    return f"{size_bytes:,} GiB"
