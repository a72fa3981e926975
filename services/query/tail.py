"""The tail: rows from the seam to the end of the log, as immutable chunks.

Small chunks are merged eight at a time, so that half a million rows are a few dozen chunks and a
row is copied about three times in its life.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from operator import itemgetter

import numpy as np
import pyarrow as pa

from services.query.asked import Selection
from services.query.chunk import (
    Chunk,
    below_ends,
    edge_us,
    from_seam,
    ints,
    merged,
    reaches_past,
    select,
)
from services.query.completeness import Covered, Partition, Span, from_offset
from services.query.offsets import Offsets, furthest, offset_at

FAN_IN = 8
TIERS_ROWS = (64, 512, 4_096)


@dataclass(frozen=True, slots=True)
class Tail:
    chunks: tuple[Chunk, ...] = ()
    # What was read, rows or none: per partition, spans of offsets in order.
    covered: Covered = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def bytes_in_memory(self) -> int:
        return sum(chunk.bytes for chunk in self.chunks if not chunk.on_disk)

    @property
    def bytes_on_disk(self) -> int:
        return sum(chunk.bytes for chunk in self.chunks if chunk.on_disk)

    @property
    def high(self) -> Offsets:
        """One past the last offset read, per partition."""
        return {
            topic: {partition: spans[-1][1] for partition, spans in partitions.items() if spans}
            for topic, partitions in self.covered.items()
        }


EMPTY_TAIL = Tail()


def appended(
    tail: Tail, topic: str, chunk: Chunk | None, spans: Mapping[int, Span], seam: Offsets
) -> Tail:
    """Add what was read of a topic; an empty span says where reading begins or goes on.

    Rows below the seam are in Iceberg already. Rows below the tail's end were read before: a
    reader that starts again does not know what is still on its way here.
    """
    chunks = (chunk,) if chunk is not None else ()
    fresh = Tail(chunks, {topic: {partition: (span,) for partition, span in spans.items()}})
    fresh = cut(fresh, furthest(seam, tail.high))
    covered = {name: dict(partitions) for name, partitions in tail.covered.items()}
    known = covered.setdefault(topic, {})
    for partition, read in fresh.covered[topic].items():
        known[partition] = up_to((*known.get(partition, ()), *read), 0)
    return Tail(merged_tiers((*tail.chunks, *fresh.chunks), topic), covered)


def cut(tail: Tail, seam: Offsets) -> Tail:
    """Drop what is below the seam."""
    kept = (from_seam(chunk, seam) for chunk in tail.chunks)
    covered = {
        topic: {
            partition: up_to(spans, offset_at(seam, topic, partition))
            for partition, spans in partitions.items()
        }
        for topic, partitions in tail.covered.items()
    }
    return Tail(tuple(chunk for chunk in kept if chunk is not None), covered)


def truncated(tail: Tail, ends: Mapping[Partition, int]) -> Tail:
    """Drop what lies at or past an end; other partitions stay as they are."""
    kept = (below_ends(chunk, ends) for chunk in tail.chunks)
    covered = {
        topic: {
            partition: below(spans, ends[topic, partition]) if (topic, partition) in ends else spans
            for partition, spans in partitions.items()
        }
        for topic, partitions in tail.covered.items()
    }
    return Tail(tuple(chunk for chunk in kept if chunk is not None), covered)


def below(spans: Sequence[Span], end: int) -> tuple[Span, ...]:
    return tuple((low, min(high, end)) for low, high in spans if low <= end)


def up_to(spans: Sequence[Span], floor: int) -> Sequence[Span]:
    """Return what lies at or past an offset; an empty last span where the end is further."""
    if len(spans) == 1 and spans[0][0] >= floor:
        return spans
    end = max(floor, *(high for _, high in spans))
    left = from_offset(spans, floor)
    return left if left and left[-1][1] == end else (*left, (end, end))


def rows_of(
    tail: Tail,
    wanted: Selection,
    columns: Sequence[str],
    *,
    most: int | None = None,
    newest: bool = True,
) -> list[pa.RecordBatch]:
    """Return the wanted rows as batches, each in row order, the batches in none.

    With `most`, at least the so many nearest to the newest or oldest end, of each symbol; their
    columns must have the timestamp.
    """
    floor = wanted.floor
    chunks = [chunk for chunk in tail.chunks if floor is None or reaches_past(chunk, floor)]
    if most is not None and wanted.symbol:
        return nearest(chunks, wanted, columns, most=most, newest=newest)
    return [
        batch
        for chunk in chunks
        for batch in select(chunk, wanted, columns, most=most, newest=newest)
    ]


def nearest(
    chunks: Sequence[Chunk], wanted: Selection, columns: Sequence[str], *, most: int, newest: bool
) -> list[pa.RecordBatch]:
    """Take rows chunk by chunk from one end; a chunk whose rows all lie further is not touched."""
    edges = {chunk: edge_us(chunk, wanted, newest=newest) for chunk in chunks}
    sign = -1 if newest else 1
    found: list[pa.RecordBatch] = []
    distances = np.empty(0, np.int64)
    for edge, chunk in sorted(
        ((sign * edge, chunk) for chunk, edge in edges.items() if edge is not None),
        key=itemgetter(0),
    ):
        if len(distances) >= most and edge > np.partition(distances, most - 1)[most - 1]:
            break
        batches = select(chunk, wanted, columns, most=most, newest=newest)
        distances = np.concatenate([distances, *(sign * ints(b["timestamp"]) for b in batches)])
        found += batches
    return found


def merged_tiers(chunks: tuple[Chunk, ...], topic: str) -> tuple[Chunk, ...]:
    """Merge a topic's newest chunks wherever eight are small enough."""
    for most_rows in TIERS_ROWS:
        own = [chunk for chunk in chunks if chunk.topic == topic]
        run = newest_below(own, most_rows)
        if len(run) >= FAN_IN:
            rest = tuple(chunk for chunk in chunks if chunk not in run)
            chunks = (*rest, merged(run))
    return chunks


def newest_below(chunks: Sequence[Chunk], most_rows: int) -> list[Chunk]:
    """Return the newest chunks, as far back as each has fewer rows."""
    return list(takewhile(lambda chunk: chunk.rows < most_rows, reversed(chunks)))
