"""Which gap to heal next, and what an answer of the exchange says of it. Pure.

An id is known never to have been issued where the exchange lists a trade before it and one after
it, next to each other in its own answer. Without the one before, REST may have forgotten; without
the one after, it may not have it yet: then the gap stays open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.ingestor.publishing.missed import OpenGap
from services.ingestor.publishing.symbol_sequence import Gap

MOST_ROWS = 1_000

# The gap's symbol and its first id: another one once the exchange brought something.
GapKey = tuple[int, int]
IdRange = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of asking, and when to ask again."""

    failures: int
    due_s: float
    because: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What an answer means for a gap.

    `wanted` are the rows that lie in it; `never_were` the ids in it that the exchange skipped;
    `go_on_from` is the id to ask from next, None where there is no more; `because` says why ids
    may stay missing.
    """

    wanted: slice
    never_were: tuple[IdRange, ...]
    go_on_from: int | None
    because: str = ""


def key_of(gap: OpenGap) -> GapKey:
    return gap.code, gap.gap.first


def next_gap(
    gaps: Sequence[OpenGap],
    attempts: Mapping[GapKey, Attempt],
    *,
    now_s: float,
    seen_before_us: int,
) -> OpenGap | None:
    """Choose what to ask for: never tried before, then small ones; None where nothing is due."""
    due = [
        gap
        for gap in gaps
        if gap.gap.seen_us <= seen_before_us
        and ((tried := attempts.get(key_of(gap))) is None or tried.due_s <= now_s)
    ]

    def urgency(gap: OpenGap) -> tuple[int, int]:
        tried = attempts.get(key_of(gap))
        return (tried.failures if tried else 0, gap.gap.last - gap.gap.first)

    return min(due, key=urgency, default=None)


def rows_to_ask(gap: Gap, from_id: int) -> int:
    """From an id before the gap to the first one after it."""
    return min(gap.last + 2 - from_id, MOST_ROWS)


def read_answer(gap: Gap, from_id: int, ids: Sequence[int]) -> Answered:
    """Say what rising `ids`, asked for from `from_id` on, mean for the gap."""
    first = next((row for row, id_ in enumerate(ids) if id_ >= gap.first), len(ids))
    end = next((row for row, id_ in enumerate(ids) if id_ > gap.last), len(ids))
    wanted = slice(first, end)
    if not ids:
        return Answered(wanted, (), None, f"the exchange lists no trade from {from_id} on")
    holes = tuple(_holes(gap, ids))
    if ids[-1] > gap.last:
        because = f"the exchange lists no trade before {ids[0]}" if ids[0] > gap.first else ""
        return Answered(wanted, holes, None, because)
    if ids[-1] <= from_id:
        return Answered(wanted, holes, None, f"the exchange lists no trade after {ids[-1]}")
    return Answered(wanted, holes, ids[-1])


def _holes(gap: Gap, ids: Sequence[int]) -> list[IdRange]:
    between = ((max(a + 1, gap.first), min(b - 1, gap.last)) for a, b in pairwise(ids))
    return [(first, last) for first, last in between if first <= last]
