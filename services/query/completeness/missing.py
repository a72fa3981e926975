"""What of the log an answer lacks: by the seam, the upper bound and what the tail holds. Pure.

From the seam to the upper bound the tail must have every row; what it has not is named. What is
missing below the seam the ledger tells (`libs/lake/completeness`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.query.offsets import Offsets, each, offset_at

Span = tuple[int, int]
Partition = tuple[str, int]
Covered = Mapping[str, Mapping[int, Sequence[Span]]]

NOT_IN_THE_LOG = "NOT_IN_THE_LOG"
ANOTHER_LOG = "ANOTHER_LOG"
LOG_UNREACHABLE = "LOG_UNREACHABLE"
UNREADABLE_BATCH = "UNREADABLE_BATCH"


@dataclass(frozen=True, slots=True)
class MissingRange:
    """Offsets from start up to, not including, end that the answer has no rows of."""

    topic: str
    partition: int
    start: int
    end: int
    reason: str = NOT_IN_THE_LOG


def missing(seam: Offsets, high: Offsets, covered: Covered) -> tuple[MissingRange, ...]:
    """Return the ranges below `high` that neither Iceberg (below `seam`) nor the tail holds."""
    return tuple(
        MissingRange(topic, partition, start, end)
        for topic, partition, bound in each(high)
        for start, end in gaps(
            (offset_at(seam, topic, partition), bound), covered.get(topic, {}).get(partition, ())
        )
    )


def unread(high: Offsets, partitions: Iterable[Partition], reason: str) -> tuple[MissingRange, ...]:
    """Say that nobody knows what comes from `high` on in these: their ranges are empty."""
    bounds = {(topic, number): offset_at(high, topic, number) for topic, number in partitions}
    return tuple(MissingRange(*at, end, end, reason) for at, end in sorted(bounds.items()))


def gaps(wanted: Span, covered: Iterable[Span]) -> list[Span]:
    """Return the parts of a span that no covered span overlaps, in order."""
    at, end = wanted
    left = []
    for low, high in joined(covered):
        if at < min(low, end):
            left.append((at, min(low, end)))
        at = max(at, high)
    if at < end:
        left.append((at, end))
    return left


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the same offsets as the fewest spans, in order; empty ones vanish."""
    result: list[Span] = []
    for low, high in sorted(span for span in spans if span[0] < span[1]):
        if result and low <= result[-1][1]:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        else:
            result.append((low, high))
    return tuple(result)


def from_offset(spans: Iterable[Span], offset: int) -> tuple[Span, ...]:
    """Return what of the spans lies at or past an offset."""
    return joined((max(low, offset), high) for low, high in spans if high > offset)
