"""Positions of the log that rows of a symbol may have had and are not held of, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from libs.lake.commits.seam import OffsetRange
from libs.lake.completeness.evidence import (
    Beyond,
    Book,
    Entry,
    Finding,
    Span,
    Why,
    ends_of,
    may_hold,
    series_held,
)
from libs.lake.completeness.scope import Scope, comes_from, origin_of
from libs.lake.ledger.coverage import Ids
from libs.lake.ledger.ledger import Dead, Shed

# How far an exchange's clock may be ahead of ours.
CLOCKS_APART_US = 60_000_000
CONFLICT = "CONFLICT"
SETTLED = "ids show that no trade of this symbol was there"
KEPT = "not in the table yet, but the query service has the rows"


def of_positions(book: Book, beyond: Beyond, scope: Scope, *, unbroken: bool) -> Iterator[Finding]:
    """Yield positions that rows of the scope may have had; none lack where ids show otherwise."""
    for position, offsets, why in beyond.absent:
        if scope.concerns(position):
            yield Finding(why, lacking=True, position=position, offsets=offsets)
    rejected = (Entry(at, dead) for at, dead in beyond.rejected if scope.concerns(at))
    tail = (entry for entry in rejected if may_hold(entry.said, scope.symbol))
    for entry in chain(book.entries, tail):
        settled = unbroken and shown_by_ids(entry, book, beyond, scope)
        if isinstance(entry.said, Shed):
            yield from of_shed(entry, beyond.kept_at(entry.position), settled=settled)
        else:
            yield of_gone(entry, settled=settled)


def of_shed(entry: Entry, kept: Sequence[Span], *, settled: bool) -> Iterator[Finding]:
    """Yield the parts of a shed range whose rows nobody has; all of it where they are kept."""
    left = list(outside(OffsetRange(entry.said.start, entry.said.end), kept))
    if not left:
        yield told(Why.SHED, entry, lacking=False, detail=KEPT)
    for part in left:
        detail = SETTLED if settled else ""
        yield told(Why.SHED, entry, lacking=not settled, detail=detail, offsets=part)


def of_gone(entry: Entry, *, settled: bool) -> Finding:
    if not isinstance(entry.said, Dead):
        return told(Why.LOST, entry, lacking=not settled, detail=SETTLED if settled else "")
    # The first trade of that id is held: what disputes it lacks nothing.
    disputed = entry.said.reason == CONFLICT
    lacking = not (settled or disputed)
    return told(Why.DEAD_LETTER, entry, lacking=lacking, detail=entry.said.reason)


def told(
    why: Why, entry: Entry, *, lacking: bool, detail: str, offsets: OffsetRange | None = None
) -> Finding:
    return Finding(
        why,
        lacking=lacking,
        position=entry.position,
        offsets=offsets or OffsetRange(entry.said.start, entry.said.end),
        at_us=entry.said.at_us,
        detail=detail,
    )


def outside(offsets: OffsetRange, spans: Sequence[Span]) -> Iterator[OffsetRange]:
    """Yield what of the offsets is in none of the spans, which are joined and in order."""
    at = offsets.start
    for low, high in spans:
        if at < min(low, offsets.end):
            yield OffsetRange(at, min(low, offsets.end))
        at = max(at, high)
    if at < offsets.end:
        yield OffsetRange(at, offsets.end)


def shown_by_ids(entry: Entry, book: Book, beyond: Beyond, scope: Scope) -> bool:
    """Say whether unbroken ids show that none of the scope's trades was at these positions.

    An exchange numbers on, so what is gone leaves a gap, save before the first id held and past
    the last: there the scope must not reach. Past the last it does not where trades are held that
    were made after the positions were gone.
    """
    if not scope.symbol:
        return False
    origin = origin_of(entry.position.topic)
    series = [one for one in series_held(book, beyond) if origin is None or comes_from(one, origin)]
    # A counter that starts again each day says nothing of the days it was not seen on.
    if not series or any(one.epoch for one in series):
        return False
    return all(reaches_over(ends_of(one, book, beyond), scope, entry.said.at_us) for one in series)


def reaches_over(ends: Ids, scope: Scope, at_us: int) -> bool:
    """Say whether the scope lies between the first and the last trade held."""
    begins = scope.start_us > ends.first_us or at_least(scope.first_id, ends.first)
    ended = scope.end_us <= ends.last_us or ends.last_us > at_us + CLOCKS_APART_US
    return begins and (ended or at_least(ends.last, scope.last_id))


def at_least(left: int | None, right: int | None) -> bool:
    return left is not None and right is not None and left >= right
