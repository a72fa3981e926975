"""Shed rows: what a snapshot passed by and will store later is kept until it has. Pure.

Its open ranges say which: records at their positions whose key is among their symbols.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

import numpy as np

from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.ledger import Ledger, Shed, within
from services.query.completeness.missing import Covered, Span, gaps, joined
from services.query.offsets import Offsets, offset_at
from services.query.tail.chunk import Chunk, Mask, only


def shed_part(chunk: Chunk, ledger: Ledger, kept: Covered) -> Chunk | None:
    """Return the rows that open ranges say are not stored, outside the spans kept already."""
    mask = np.zeros(chunk.rows, np.bool_)
    for partition, span in chunk.bounds.items():
        known = kept.get(chunk.topic, {}).get(partition, ())
        ranges = [
            shed._replace(start=low, end=high)
            for shed in open_ranges(ledger, chunk.topic, partition, span)
            for low, high in gaps((shed.start, shed.end), near(known, shed))
        ]
        if ranges:
            mark(mask, chunk, partition, ranges)
    return only(chunk, mask)


def mark(mask: Mask, chunk: Chunk, partition: int, ranges: Sequence[Shed]) -> None:
    """Mark the rows of a partition whose symbol is among those of the range they lie in."""
    starts = np.array([shed.start for shed in ranges])
    ends = np.array([shed.end for shed in ranges])
    # Few ranges differ in their symbols.
    kinds = {shed.symbols: frozenset(shed.symbols) for shed in ranges}
    codes = dict(zip(kinds, range(len(kinds)), strict=True))
    kind = np.array([codes[shed.symbols] for shed in ranges])
    for symbol in frozenset[str]().union(*kinds.values()) & chunk.slices.keys():
        rows = slice(*chunk.slices[symbol])
        offsets = chunk.offsets[rows]
        at = np.maximum(np.searchsorted(starts, offsets, side="right") - 1, 0)
        named = np.array([symbol in symbols for symbols in kinds.values()])[kind]
        inside = (offsets >= starts[at]) & (offsets < ends[at]) & named[at]
        mask[rows] |= inside & (chunk.partitions[rows] == partition)


def same_ranges(chunk: Chunk, before: Ledger, now: Ledger) -> bool:
    """Say whether the same of the chunk's positions are in open ranges."""
    return all(
        spans_of(before, chunk.topic, partition, span)
        == spans_of(now, chunk.topic, partition, span)
        for partition, span in chunk.bounds.items()
    )


def open_ranges(ledger: Ledger, topic: str, partition: int, span: Span) -> Iterator[Shed]:
    low, high = span
    ranges = ledger.book(TopicPartition(topic, partition)).shed
    start, stop = bisect_right(ranges, low, key=end_of), bisect_left(ranges, high, key=start_of)
    return within(ranges[start:stop], low, high)


def near(spans: Sequence[Span], shed: Shed) -> Sequence[Span]:
    """Return those of the spans, in order, that a range may touch."""
    start = bisect_right(spans, shed.start, key=itemgetter(1))
    return spans[start : bisect_left(spans, shed.end, key=itemgetter(0))]


def start_of(shed: Shed) -> int:
    return shed.start


def end_of(shed: Shed) -> int:
    return shed.end


def spans_of(ledger: Ledger, topic: str, partition: int, span: Span) -> tuple[Span, ...]:
    ranges = open_ranges(ledger, topic, partition, span)
    return joined((shed.start, shed.end) for shed in ranges)


def kept_spans(kept: Covered, read: Covered, seam: Offsets, ledger: Ledger) -> Covered:
    """Return the open positions below the seam whose rows are kept, those just read too."""
    found: dict[str, dict[int, Sequence[Span]]] = {}
    for (topic, partition), book in ledger.partitions.items():
        if not book.shed:
            continue
        end = offset_at(seam, topic, partition)
        here = joined(
            span for parts in (kept, read) for span in parts.get(topic, {}).get(partition, ())
        )
        spans = joined(
            (max(low, shed.start), min(high, shed.end, end))
            for shed in book.shed
            for low, high in near(here, shed)
        )
        if spans:
            found.setdefault(topic, {})[partition] = spans
    return found


def not_kept(ledger: Ledger, kept: Covered) -> Iterator[tuple[TopicPartition, Shed]]:
    """Yield the parts of open ranges whose rows are not kept."""
    for position, book in ledger.partitions.items():
        known = kept.get(position.topic, {}).get(position.partition, ())
        for shed in book.shed:
            for low, high in gaps((shed.start, shed.end), near(known, shed)):
                yield position, shed._replace(start=low, end=high)


def forgotten(kept: Covered, chunk: Chunk) -> Covered:
    """Return the spans kept once a chunk is let go."""
    found: Mapping[int, Sequence[Span]] = kept.get(chunk.topic, {})
    left = {
        partition: outside(spans, chunk.bounds[partition]) if partition in chunk.bounds else spans
        for partition, spans in found.items()
    }
    return {**kept, chunk.topic: left}


def outside(spans: Sequence[Span], hole: Span) -> tuple[Span, ...]:
    return joined(
        part
        for low, high in spans
        for part in ((low, min(high, hole[0])), (max(low, hole[1]), high))
    )
