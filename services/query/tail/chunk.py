"""A piece of the tail: decoded rows of one topic, sorted so that a symbol's rows are one slice.

Immutable, so queries read it without a lock, and it is freed when the last state that refers to it
is. Rows are sorted by (symbol, timestamp, kafka_partition, kafka_offset), symbols in no order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.lake.ledger.claims import claims_of
from libs.lake.ledger.coverage import Coverage, Series, union
from libs.wire.promote import together
from libs.wire.schema import TRADE_SCHEMA
from services.query.asked import LATEST_US, Selection, Times
from services.query.completeness.missing import Partition, Span
from services.query.offsets import Offsets, offset_at

Int64s = npt.NDArray[np.int64]
_OWN = frozenset(TRADE_SCHEMA.names)
Mask = npt.NDArray[np.bool_]


class Numbering(NamedTuple):
    """A series without its symbol."""

    exchange: str
    asset_class: str
    epoch: int


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    topic: str
    batch: pa.RecordBatch
    slices: Mapping[str, Span]
    timestamps_us: Int64s
    partitions: npt.NDArray[np.int32]
    offsets: Int64s
    # Per partition the lowest offset and one past the highest.
    bounds: Mapping[int, Span]
    bytes: int
    # The ids of its rows.
    claims: Coverage
    on_disk: bool = False
    # Columns beyond a trade's own.
    added: tuple[pa.Field, ...] = ()
    # What series its rows are of, symbols aside.
    numberings: frozenset[Numbering] = frozenset()
    # Symbols of rows that carry no id of the exchange.
    unnumbered: frozenset[str] = frozenset()

    @property
    def names(self) -> Set[str]:
        return _OWN | {field.name for field in self.added} if self.added else _OWN

    @property
    def rows(self) -> int:
        return len(self.offsets)


def chunk_of(topic: str, batch: pa.RecordBatch, *, claims: Coverage | None = None) -> Chunk:
    """Sort rows of one topic into a chunk; there is at least one."""
    symbols = batch["symbol"].dictionary_encode()
    codes = symbols.indices.to_numpy()
    order = np.lexsort(
        (ints(batch["kafka_offset"]), batch["kafka_partition"], ints(batch["timestamp"]), codes)
    )
    return sorted_chunk(topic, batch.take(pa.array(order)), claims=claims)


def sorted_chunk(
    topic: str, batch: pa.RecordBatch, *, claims: Coverage | None = None, on_disk: bool = False
) -> Chunk:
    """Wrap rows that are in a chunk's order already, with their ids where these are known."""
    offsets, partitions = ints(batch["kafka_offset"]), batch["kafka_partition"].to_numpy()
    claims = claims_of(batch) if claims is None else claims
    return Chunk(
        topic=topic,
        batch=batch,
        slices=symbol_slices(batch["symbol"]),
        timestamps_us=ints(batch["timestamp"]),
        partitions=partitions,
        offsets=offsets,
        bounds=partition_bounds(partitions, offsets),
        bytes=batch.nbytes,
        claims=claims,
        on_disk=on_disk,
        added=tuple(batch.schema)[len(TRADE_SCHEMA) :],
        numberings=frozenset(map(numbering_of, claims)),
        unnumbered=unnumbered(batch),
    )


def numbering_of(series: Series) -> Numbering:
    return Numbering(series.exchange, series.asset_class, series.epoch)


def unnumbered(batch: pa.RecordBatch) -> frozenset[str]:
    """Return the symbols of rows without an id."""
    ids = batch["source_sequence"]
    if not ids.null_count:
        return frozenset()
    return frozenset(batch["symbol"].filter(ids.is_null()).unique().to_pylist())


def merged(chunks: Sequence[Chunk]) -> Chunk:
    """Make one chunk of several of the same topic."""
    rows = together([chunk.batch for chunk in chunks])
    claims = reduce(union, (chunk.claims for chunk in chunks))
    return chunk_of(chunks[0].topic, rows, claims=claims)


def from_seam(chunk: Chunk, seam: Offsets) -> Chunk | None:
    """Return the chunk's rows at or past the seam; itself where that is all, None where none."""
    if wholly_past(chunk, seam):
        return chunk
    return only(chunk, at_or_past(chunk, seam))


def before_seam(chunk: Chunk, seam: Offsets) -> Chunk | None:
    """Return the chunk's rows below the seam."""
    return only(chunk, ~at_or_past(chunk, seam))


def below_ends(chunk: Chunk, ends: Mapping[Partition, int]) -> Chunk | None:
    """Return the chunk's rows that are below their partition's end, where it has one."""
    keep = np.ones(chunk.rows, np.bool_)
    for (topic, partition), end in ends.items():
        if topic == chunk.topic and partition in chunk.bounds:
            keep &= (chunk.partitions != partition) | (chunk.offsets < end)
    return only(chunk, keep)


def only(chunk: Chunk, keep: Mask) -> Chunk | None:
    """Return some of a chunk's rows; itself where that is all, None where none."""
    if keep.all():
        return chunk
    if not keep.any():
        return None
    return sorted_chunk(chunk.topic, chunk.batch.filter(pa.array(keep)))


def wholly_past(chunk: Chunk, floor: Offsets) -> bool:
    return all(
        low >= offset_at(floor, chunk.topic, partition)
        for partition, (low, _) in chunk.bounds.items()
    )


def at_or_past(chunk: Chunk, floor: Offsets) -> Mask:
    lows = {partition: offset_at(floor, chunk.topic, partition) for partition in chunk.bounds}
    table = np.zeros(max(lows) + 1, np.int64)
    table[list(lows)] = list(lows.values())
    result: Mask = chunk.offsets >= table[chunk.partitions]
    return result


def reaches_past(chunk: Chunk, floor: Offsets) -> bool:
    return any(
        high > offset_at(floor, chunk.topic, partition)
        for partition, (_, high) in chunk.bounds.items()
    )


def select(
    chunk: Chunk, wanted: Selection, columns: Sequence[str], *, most: int | None, newest: bool
) -> list[pa.RecordBatch]:
    """Return the chunk's rows that are wanted, each batch in row order.

    With `most` only that many of each symbol, from the newest or the oldest end.
    """
    inside = within_bounds(chunk, wanted)
    found = (
        part(chunk, span, wanted, columns, inside=inside, most=most, newest=newest)
        for span in spans_of(chunk, wanted)
    )
    return [batch for batch in found if batch.num_rows]


def edge_us(chunk: Chunk, wanted: Selection, *, newest: bool) -> int | None:
    """Return the newest or oldest time of a symbol's rows; None where it has none."""
    for start, stop in spans_of(chunk, wanted):
        if start < stop:
            return int(chunk.timestamps_us[stop - 1 if newest else start])
    return None


def spans_of(chunk: Chunk, wanted: Selection) -> list[Span]:
    """Return the slices of the symbols wanted, narrowed to the times."""
    if wanted.symbol:
        span = chunk.slices.get(wanted.symbol)
        return [narrowed(chunk, span, wanted.times)] if span else []
    return [narrowed(chunk, span, wanted.times) for span in chunk.slices.values()]


def narrowed(chunk: Chunk, span: Span, times: Times) -> Span:
    start, stop = span
    stamps = chunk.timestamps_us[start:stop]
    low = int(np.searchsorted(stamps, times.start_us)) if times.start_us > 0 else 0
    high = int(np.searchsorted(stamps, times.end_us)) if times.end_us < LATEST_US else len(stamps)
    return start + low, start + max(low, high)


def within_bounds(chunk: Chunk, wanted: Selection) -> Mask | None:
    """Say which rows lie inside the offset bounds; None where all do."""
    inside: Mask | None = None
    if wanted.floor is not None and not wholly_past(chunk, wanted.floor):
        inside = at_or_past(chunk, wanted.floor)
    if wanted.ceiling is not None and reaches_past(chunk, wanted.ceiling):
        below = ~at_or_past(chunk, wanted.ceiling)
        inside = below if inside is None else inside & below
    return inside


def part(
    chunk: Chunk,
    span: Span,
    wanted: Selection,
    columns: Sequence[str],
    *,
    inside: Mask | None,
    most: int | None,
    newest: bool,
) -> pa.RecordBatch:
    start, stop = span
    batch = chunk.batch.slice(start, stop - start)
    if inside is not None:
        batch = batch.filter(pa.array(inside[start:stop]))
    if wanted.exchange:
        batch = batch.filter(pc.equal(batch["exchange"], wanted.exchange))
    if most is not None and batch.num_rows > most:
        batch = batch.slice(batch.num_rows - most if newest else 0, most)
    return batch.select([name for name in columns if name in chunk.names])


def symbol_slices(symbols: pa.Array) -> dict[str, Span]:
    runs = pc.run_end_encode(symbols)
    ends = runs.run_ends.to_pylist()
    starts = [0, *ends[:-1]]
    return dict(zip(runs.values.to_pylist(), zip(starts, ends, strict=True), strict=True))


def partition_bounds(partitions: npt.NDArray[np.int32], offsets: Int64s) -> dict[int, Span]:
    size = int(partitions.max()) + 1
    low = np.full(size, np.iinfo(np.int64).max)
    high = np.full(size, -1)
    np.minimum.at(low, partitions, offsets)
    np.maximum.at(high, partitions, offsets)
    present = np.flatnonzero(high >= 0).tolist()
    return {partition: (int(low[partition]), int(high[partition]) + 1) for partition in present}


def ints(column: pa.Array) -> Int64s:
    """View a column of 64-bit values as integers."""
    values: Int64s = column.view(pa.int64()).to_numpy()
    return values
