"""The tail: rows from the seam to the end of the log, as immutable chunks.

Small chunks are merged eight at a time, so that half a million rows are a few dozen chunks and a
row is copied about three times in its life.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import pyarrow as pa

from services.query.asked import Selection
from services.query.chunk import Chunk, from_seam, merged, reaches_past, select
from services.query.completeness import Covered, Span, from_offset, joined
from services.query.offsets import Offsets, offset_at

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
    """Add what was read of a topic; rows below the seam are in Iceberg already.

    An empty span says where reading begins.
    """
    chunks = (chunk,) if chunk is not None else ()
    fresh = Tail(chunks, {topic: {partition: (span,) for partition, span in spans.items()}})
    fresh = cut(fresh, seam)
    covered = {name: dict(partitions) for name, partitions in tail.covered.items()}
    known = covered.setdefault(topic, {})
    for partition, read in fresh.covered[topic].items():
        known[partition] = united(known.get(partition, ()), read)
    return Tail(merged_tiers((*tail.chunks, *fresh.chunks), topic), covered)


def united(known: Sequence[Span], read: Sequence[Span]) -> Sequence[Span]:
    """Join spans, keeping the empty one that says where reading begins."""
    return joined((*known, *read)) or tuple(read) or tuple(known)


def cut(tail: Tail, seam: Offsets) -> Tail:
    """Drop what is below the seam."""
    kept = (from_seam(chunk, seam) for chunk in tail.chunks)
    covered = {
        topic: {
            partition: spans_from(spans, offset_at(seam, topic, partition))
            for partition, spans in partitions.items()
        }
        for topic, partitions in tail.covered.items()
    }
    return Tail(tuple(chunk for chunk in kept if chunk is not None), covered)


def spans_from(spans: Sequence[Span], offset: int) -> Sequence[Span]:
    """Return what lies at or past an offset, or where that would begin."""
    end = max(spans[-1][1], offset)
    return from_offset(spans, offset) or ((end, end),)


def rows_of(
    tail: Tail,
    wanted: Selection,
    columns: Sequence[str],
    *,
    most: int | None = None,
    newest: bool = True,
) -> list[pa.RecordBatch]:
    """Return the wanted rows as batches, each in row order, the batches in none."""
    return [
        batch
        for chunk in tail.chunks
        if wanted.floor is None or reaches_past(chunk, wanted.floor)
        for batch in select(chunk, wanted, columns, most=most, newest=newest)
    ]


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
