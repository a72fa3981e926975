"""What is missing of a symbol's trades, and why: from the ledger and what is known beside it. Pure.

Ids prove it: a gap between two held ones is missing, and where they follow each other nothing is.
Positions that were lost, dead-lettered, or shed and not kept make an answer incomplete unless ids
show that nothing of the symbol was among them. Times come from the trades around a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

from libs.lake.coverage import Held, IdRange, Ids, Series, first_of, join, last_of
from libs.lake.gaps import EARLIEST_US, LATEST_US, NO_GAPS, Gap, SeriesGaps, beyond_ends
from libs.lake.ledger import Dead, Ledger, Lost, PartitionBook, Shed
from libs.lake.scope import Scope, comes_from, origin_of
from libs.lake.seam import OffsetRange, TopicPartition

# How far an exchange's clock may be ahead of ours.
CLOCKS_APART_US = 60_000_000
CONFLICT = "CONFLICT"
NO_SEQUENCE = "trades without a number of the exchange: nobody can say whether one is missing"
SETTLED = "ids show that no trade of this symbol was there"
KEPT = "not in the table yet, but the query service has the rows"

Span = tuple[int, int]


class Why(StrEnum):
    """Why ids or positions are not in an answer."""

    GAP = "GAP"
    VENUE = "VENUE"
    NOT_IN_THE_LOG = "NOT_IN_THE_LOG"
    ANOTHER_LOG = "ANOTHER_LOG"
    LOG_UNREACHABLE = "LOG_UNREACHABLE"
    LOST = "LOST"
    DEAD_LETTER = "DEAD_LETTER"
    SHED = "SHED"
    NOT_PROVABLE = "NOT_PROVABLE"
    NOT_COMMITTED = "NOT_COMMITTED"
    BEHIND = "BEHIND"


class Finding(NamedTuple):
    """Something to tell; `lacking` where an answer is not complete because of it."""

    why: Why
    lacking: bool
    series: Series | None = None
    ids: IdRange | None = None
    # The times of the trades around the ids.
    after_us: int = EARLIEST_US
    before_us: int = LATEST_US
    position: TopicPartition | None = None
    offsets: OffsetRange | None = None
    # When it was recorded; 0 where it was not.
    at_us: int = 0
    detail: str = ""


Said = Shed | Dead | Lost


class Entry(NamedTuple):
    """A line of a partition's book."""

    position: TopicPartition
    said: Said


@dataclass(frozen=True, slots=True)
class Book:
    """What a ledger says of a symbol, or of all: made once for a ledger and the names asked for."""

    series: Mapping[Series, SeriesGaps] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    duplicates: Mapping[Series, int] = field(default_factory=dict)


class Absent(NamedTuple):
    """Positions below the answer's bound that neither the table nor the tail has."""

    position: TopicPartition
    offsets: OffsetRange
    why: Why


@dataclass(frozen=True, slots=True)
class Beyond:
    """What is known beside the ledger."""

    # Ids that the tail holds.
    held: Mapping[Series, Held] = field(default_factory=dict)
    # Positions below the seam whose rows were kept though the table has them not.
    kept: Mapping[TopicPartition, Sequence[Span]] = field(default_factory=dict)
    absent: Sequence[Absent] = ()
    # Records of the tail that cannot be decoded, and are not in the dead letters yet.
    rejected: Sequence[tuple[TopicPartition, Dead]] = ()
    # Series with rows that have no number.
    unnumbered: Sequence[Series] = ()


def book_of(ledger: Ledger, series: Iterable[Series], scope: Scope) -> Book:
    """Gather what a ledger says of the scope's names; `series` are those it knows of them."""
    mine = tuple(series)
    return Book(
        series={
            one: SeriesGaps.of(ledger.coverage.get(one, ()), ledger.holes.get(one, ()))
            for one in mine
        },
        entries=tuple(
            entry
            for position, book in ledger.partitions.items()
            if scope.concerns(position)
            for entry in entries_of(position, book)
            if may_hold(entry.said, scope.symbol)
        ),
        duplicates={one: ledger.duplicates[one] for one in mine if one in ledger.duplicates},
    )


def entries_of(position: TopicPartition, book: PartitionBook) -> Iterator[Entry]:
    said: Iterator[Said] = chain(book.lost, book.dead, book.shed)
    return (Entry(position, one) for one in said)


def may_hold(said: Said, symbol: str) -> bool:
    """Say whether a record of the symbol may be among these; "" is any symbol."""
    if not symbol:
        return True
    if isinstance(said, Dead):
        return said.symbol in ("", symbol)
    return symbol in said.symbols if said.symbols else isinstance(said, Lost)


def findings(book: Book, beyond: Beyond, scope: Scope) -> list[Finding]:
    """Return what there is to tell of the scope: by series and id first, then by position."""
    found = [
        finding
        for series in series_held(book, beyond)
        for finding in of_series(series, book, beyond, scope)
    ]
    found += unprovable(beyond, scope)
    unbroken = not any(finding.lacking for finding in found)
    return [*found, *of_positions(book, beyond, scope, unbroken=unbroken)]


def series_held(book: Book, beyond: Beyond) -> list[Series]:
    """Return the series of which anything is held, in order."""
    stored = {series for series, known in book.series.items() if known.held}
    return sorted(stored.union(beyond.held))


def lacking(book: Book, beyond: Beyond, scope: Scope) -> list[Finding]:
    """Return why an answer is not complete; none where nothing of the scope is missing."""
    return [finding for finding in findings(book, beyond, scope) if finding.lacking]


def of_series(series: Series, book: Book, beyond: Beyond, scope: Scope) -> Iterator[Finding]:
    """Yield the gaps in a series' ids that the scope meets."""
    known, more = book.series.get(series, NO_GAPS), beyond.held.get(series, ())
    gaps = known.with_more(more, scope.start_us, scope.end_us)
    if scope.first_id is not None or scope.last_id is not None:
        held = join(known.held, more)
        ends = beyond_ends(held, known.holes, scope.first_id, scope.last_id)
        gaps += (gap for gap in ends if gap.meets(scope.start_us, scope.end_us))
        gaps = [cut for gap in gaps if (cut := cut_to_ids(gap, scope))]
    return (of_gap(series, gap) for gap in gaps)


def cut_to_ids(gap: Gap, scope: Scope) -> Gap | None:
    first = gap.first if scope.first_id is None else max(gap.first, scope.first_id)
    last = gap.last if scope.last_id is None else min(gap.last, scope.last_id)
    return gap._replace(first=first, last=last) if first <= last else None


def of_gap(series: Series, gap: Gap) -> Finding:
    declared = gap.hole is not None
    return Finding(
        Why.VENUE if declared else Why.GAP,
        lacking=not declared,
        series=series,
        ids=IdRange(gap.first, gap.last),
        after_us=gap.after_us,
        before_us=gap.before_us,
        detail=gap.hole or "",
    )


def unprovable(beyond: Beyond, scope: Scope) -> Iterator[Finding]:
    for series in beyond.unnumbered:
        if scope.covers(series):
            yield Finding(Why.NOT_PROVABLE, lacking=True, series=series, detail=NO_SEQUENCE)


def of_positions(book: Book, beyond: Beyond, scope: Scope, *, unbroken: bool) -> Iterator[Finding]:
    """Yield positions that rows of the scope may have had and are not held of."""
    for position, offsets, why in beyond.absent:
        if scope.concerns(position):
            yield Finding(why, lacking=True, position=position, offsets=offsets)
    rejected = (Entry(at, dead) for at, dead in beyond.rejected if scope.concerns(at))
    tail = (entry for entry in rejected if may_hold(entry.said, scope.symbol))
    for entry in chain(book.entries, tail):
        settled = unbroken and shown_by_ids(entry, book, beyond, scope)
        yield of_entry(entry, beyond, settled=settled)


def of_entry(entry: Entry, beyond: Beyond, *, settled: bool) -> Finding:
    said = entry.said
    offsets = OffsetRange(said.start, said.end)
    harmless, detail = settled, SETTLED if settled else ""
    if isinstance(said, Dead):
        why = Why.DEAD_LETTER
        # The first trade of that id is held: what is dead-lettered disputes it, and lacks nothing.
        harmless = settled or said.reason == CONFLICT
        detail = said.reason
    elif isinstance(said, Shed):
        why = Why.SHED
        if inside(offsets, beyond.kept.get(entry.position, ())):
            harmless, detail = True, KEPT
    else:
        why = Why.LOST
    return Finding(
        why,
        lacking=not harmless,
        position=entry.position,
        offsets=offsets,
        at_us=said.at_us,
        detail=detail,
    )


def inside(offsets: OffsetRange, spans: Sequence[Span]) -> bool:
    """Say whether one of the spans, which are joined, holds all these offsets."""
    return any(low <= offsets.start and offsets.end <= high for low, high in spans)


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


def ends_of(series: Series, book: Book, beyond: Beyond) -> Ids:
    """Return the first and last id held and the times of the first and last range."""
    parts = (book.series.get(series, NO_GAPS).held, beyond.held.get(series, ()))
    first = min((held[0] for held in parts if held), key=first_of)
    last = max((held[-1] for held in parts if held), key=last_of)
    return Ids(first.first, last.last, first.first_us, last.last_us)
