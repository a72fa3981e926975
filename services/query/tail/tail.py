"""The tail: rows that Iceberg does not have, as immutable chunks. Pure.

These are the rows from the seam to the end of the log, and shed ones behind it. Small chunks are
merged eight at a time, so that half a million rows are a few dozen chunks and a row is copied
about three times in its life.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from libs.lake.ledger.coverage import Counts, Coverage, union
from libs.lake.ledger.ledger import EMPTY_LEDGER, Ledger
from services.query.completeness.missing import Covered, Partition, Span, from_offset
from services.query.offsets import Offsets, furthest, offset_at
from services.query.tail.chunk import Chunk, before_seam, below_ends, from_seam, merged
from services.query.tail.dedupe import ids_of, parted, without
from services.query.tail.held import forgotten, kept_spans, same_ranges, shed_part

FAN_IN = 8
TIERS_ROWS = (64, 512, 4_096)
# Held rows may wait for hours.
HELD_TIERS_ROWS = (*TIERS_ROWS, 32_768, 262_144)


@dataclass(frozen=True, slots=True)
class Tail:
    # Rows from the seam on, in the order in which they were read.
    chunks: tuple[Chunk, ...] = ()
    # What was read, rows or none: per partition, spans of offsets in order.
    covered: Covered = field(default_factory=dict)
    # Shed rows below the seam, and the spans of offsets of which they are all here.
    held: tuple[Chunk, ...] = ()
    kept: Covered = field(default_factory=dict)
    # Rows whose id another row here has: no answer has them unless that one is lost.
    aside: tuple[Chunk, ...] = ()
    # The ids of the rows above, those aside excepted.
    ids: Coverage = field(default_factory=dict)
    # How many re-sent trades were left out, since the process began.
    dropped: Counts = field(default_factory=dict)

    @property
    def answering(self) -> tuple[Chunk, ...]:
        """Every chunk that answers have rows of."""
        return (*self.held, *self.chunks)

    @property
    def rows(self) -> int:
        return sum(chunk.rows for chunk in self.answering)

    @property
    def held_rows(self) -> int:
        return sum(chunk.rows for chunk in self.held)

    @property
    def bytes_in_memory(self) -> int:
        chunks = (*self.answering, *self.aside)
        return sum(chunk.bytes for chunk in chunks if not chunk.on_disk)

    @property
    def bytes_on_disk(self) -> int:
        return sum(chunk.bytes for chunk in (*self.answering, *self.aside) if chunk.on_disk)

    @property
    def bytes_past_seam(self) -> int:
        """What the next commits will take away."""
        return sum(chunk.bytes for chunk in (*self.chunks, *self.aside))

    @property
    def high(self) -> Offsets:
        """One past the last offset read, per partition."""
        return {
            topic: {partition: spans[-1][1] for partition, spans in partitions.items() if spans}
            for topic, partitions in self.covered.items()
        }


EMPTY_TAIL = Tail()


def appended(
    tail: Tail,
    topic: str,
    chunk: Chunk | None,
    spans: Mapping[int, Span],
    seam: Offsets,
    ledger: Ledger = EMPTY_LEDGER,
) -> Tail:
    """Add what was read of a topic; an empty span says where reading begins or goes on.

    Rows below the seam are in Iceberg already, or shed and held here. Rows below the tail's end
    were read before: a reader that starts again does not know what is still on its way here.
    """
    floor = furthest(seam, tail.high)
    read = {topic: {partition: (span,) for partition, span in spans.items()}}
    covered = {name: dict(partitions) for name, partitions in tail.covered.items()}
    known = covered.setdefault(topic, {})
    for partition, fresh in covered_from(read, floor)[topic].items():
        known[partition] = up_to((*known.get(partition, ()), *fresh), 0)
    grown = replace(tail, covered=covered)
    if begins_below(spans, topic, seam):
        grown = with_shed(grown, topic, chunk, spans, seam, ledger)
    new = from_seam(chunk, floor) if chunk is not None else None
    return grown if new is None else taken(grown, new, ledger.coverage)


def begins_below(spans: Mapping[int, Span], topic: str, seam: Offsets) -> bool:
    return any(low < offset_at(seam, topic, partition) for partition, (low, _) in spans.items())


def with_shed(
    tail: Tail,
    topic: str,
    chunk: Chunk | None,
    spans: Mapping[int, Span],
    seam: Offsets,
    ledger: Ledger,
) -> Tail:
    """Hold what of these rows was shed and is not here yet; others are left to Iceberg."""
    late = shed_part(chunk, ledger, tail.kept) if chunk is not None else None
    read = {topic: {partition: (span,) for partition, span in spans.items()}}
    kept = kept_spans(tail.kept, read, seam, ledger)
    tail = replace(tail, kept=kept) if kept != tail.kept else tail
    return tail if late is None else taken(tail, late, ledger.coverage, shed=True)


def taken(tail: Tail, chunk: Chunk, stored: Coverage, *, shed: bool = False) -> Tail:
    """Add rows, those left out whose id is stored or here already."""
    new, repeats, dropped = parted(chunk, stored, tail.ids)
    aside = tail.aside if repeats is None else merged_tiers((*tail.aside, repeats), chunk.topic)
    tail = replace(tail, aside=aside, dropped=summed(tail.dropped, dropped))
    if new is None:
        return tail
    ids = union(tail.ids, new.claims)
    if shed:
        held = merged_tiers((*tail.held, new), chunk.topic, HELD_TIERS_ROWS)
        return replace(tail, held=held, ids=ids)
    return replace(tail, chunks=merged_tiers((*tail.chunks, new), chunk.topic), ids=ids)


def committed(tail: Tail, seam: Offsets, ledger: Ledger, before: Ledger = EMPTY_LEDGER) -> Tail:
    """Return what a new snapshot leaves: the rows past its seam, and those it shed.

    `before` is the ledger of the snapshot before it. A row whose id the table has come to hold by
    another way (a backfill, an import) goes too.
    """
    shed = [shed_part(chunk, ledger, tail.kept) for chunk in tail.chunks]
    still = [
        chunk if same_ranges(chunk, before, ledger) else shed_part(chunk, ledger, {})
        for chunk in tail.held
    ]
    aside = [
        part
        for chunk in tail.aside
        for part in (shed_part(chunk, ledger, {}), from_seam(chunk, seam))
    ]
    left = Tail(
        chunks=fresh(ledger, (from_seam(chunk, seam) for chunk in tail.chunks)),
        covered=covered_from(tail.covered, seam),
        held=fresh(ledger, (*still, *shed)),
        kept=kept_spans(tail.kept, tail.covered, seam, ledger),
        dropped=tail.dropped,
    )
    left = replace(left, held=tidied(left.held), ids=ids_of(left.answering))
    return readmitted(left, fresh(ledger, aside), seam)


def fresh(ledger: Ledger, chunks: Iterable[Chunk | None]) -> tuple[Chunk, ...]:
    """Drop the rows whose id the table holds."""
    left = (without(chunk, ledger.coverage) for chunk in chunks if chunk is not None)
    return tuple(chunk for chunk in left if chunk is not None)


def readmitted(tail: Tail, aside: Sequence[Chunk], seam: Offsets) -> Tail:
    """Take rows that were put aside; those that still repeat one here go aside again."""
    counted = tail.dropped
    for chunk in aside:
        past, shed = from_seam(chunk, seam), before_seam(chunk, seam)
        tail = tail if past is None else taken(tail, past, {})
        tail = tail if shed is None else taken(tail, shed, {}, shed=True)
    return replace(tail, dropped=counted)


def tidied(chunks: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
    for topic in {chunk.topic for chunk in chunks}:
        chunks = merged_tiers(chunks, topic, HELD_TIERS_ROWS)
    return chunks


def summed(counts: Counts, more: Counts) -> Counts:
    if not more:
        return counts
    return {**counts, **{series: counts.get(series, 0) + count for series, count in more.items()}}


def covered_from(covered: Covered, floor: Offsets) -> Covered:
    return {
        topic: {
            partition: up_to(spans, offset_at(floor, topic, partition))
            for partition, spans in partitions.items()
        }
        for topic, partitions in covered.items()
    }


def lightened(tail: Tail, seam: Offsets, *, held_bytes: int) -> Tail:
    """Let the oldest held chunks go until the rest fits: their rows are lacking then."""
    over = sum(chunk.bytes for chunk in tail.held) - held_bytes
    if over <= 0:
        return tail
    held, kept = list(tail.held), tail.kept
    while over > 0:
        oldest = held.pop(0)
        over -= oldest.bytes
        kept = forgotten(kept, oldest)
    left = replace(tail, held=tuple(held), kept=kept, aside=())
    return readmitted(replace(left, ids=ids_of(left.answering)), tail.aside, seam)


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
    chunks = tuple(chunk for chunk in kept if chunk is not None)
    aside = tuple(chunk for found in tail.aside if (chunk := below_ends(found, ends)) is not None)
    left = replace(tail, chunks=chunks, covered=covered, aside=aside)
    return replace(left, ids=ids_of(left.answering))


def below(spans: Sequence[Span], end: int) -> tuple[Span, ...]:
    return tuple((low, min(high, end)) for low, high in spans if low <= end)


def up_to(spans: Sequence[Span], floor: int) -> Sequence[Span]:
    """Return what lies at or past an offset; an empty last span where the end is further."""
    if len(spans) == 1 and spans[0][0] >= floor:
        return spans
    end = max(floor, *(high for _, high in spans))
    left = from_offset(spans, floor)
    return left if left and left[-1][1] == end else (*left, (end, end))


def merged_tiers(
    chunks: tuple[Chunk, ...], topic: str, tiers: Sequence[int] = TIERS_ROWS
) -> tuple[Chunk, ...]:
    """Merge a topic's newest chunks wherever eight are small enough."""
    for most_rows in tiers:
        own = [chunk for chunk in chunks if chunk.topic == topic]
        run = newest_below(own, most_rows)
        if len(run) >= FAN_IN:
            rest = tuple(chunk for chunk in chunks if chunk not in run)
            chunks = (*rest, merged(run))
    return chunks


def newest_below(chunks: Sequence[Chunk], most_rows: int) -> list[Chunk]:
    """Return the newest chunks, as far back as each has fewer rows."""
    return list(takewhile(lambda chunk: chunk.rows < most_rows, reversed(chunks)))
