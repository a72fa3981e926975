"""What is known of a symbol's trades, and what there is to tell of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.coverage import Coverage, Held, IdRange, Ids, Series, first_of, last_of
from libs.lake.ledger.gaps import EARLIEST_US, LATEST_US, NO_GAPS, SeriesGaps, outside
from libs.lake.ledger.ledger import Dead, Ledger, Lost, PartitionBook, Shed

Span = tuple[int, int]


class Why(StrEnum):
    """Why ids or positions are not in an answer."""

    GAP = "GAP"
    VENUE = "VENUE"
    NOT_IN_THE_LOG = "NOT_IN_THE_LOG"
    ANOTHER_LOG = "ANOTHER_LOG"
    LOG_UNREACHABLE = "LOG_UNREACHABLE"
    UNREADABLE_BATCH = "UNREADABLE_BATCH"
    LOST = "LOST"
    DEAD_LETTER = "DEAD_LETTER"
    SHED = "SHED"
    BEFORE_FIRST = "BEFORE_FIRST"
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
    # Those of them that are not one range.
    broken: frozenset[Series] = frozenset()
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
    # Positions whose shed rows were kept, though the table has them not: by topic and partition.
    kept: Mapping[str, Mapping[int, Sequence[Span]]] = field(default_factory=dict)
    absent: Sequence[Absent] = ()
    # Records of the tail that cannot be decoded, and are not in the dead letters yet.
    rejected: Sequence[tuple[TopicPartition, Dead]] = ()
    # Some rows of the scope have no id.
    unnumbered: bool = False

    def kept_at(self, position: TopicPartition) -> Sequence[Span]:
        return self.kept.get(position.topic, {}).get(position.partition, ())


def book_of(ledger: Ledger, series: Iterable[Series], scope: Scope) -> Book:
    """Gather what a ledger says of the scope's names; `series` are those it knows of them."""
    known = {
        one: SeriesGaps.of(ledger.coverage.get(one, ()), ledger.holes.get(one, ()))
        for one in series
    }
    return Book(
        series=known,
        broken=frozenset(one for one, gaps in known.items() if len(gaps.held) > 1),
        entries=tuple(
            entry
            for position, book in ledger.partitions.items()
            if scope.concerns(position)
            for entry in entries_of(position, book)
            if may_hold(entry.said, scope.symbol)
        ),
        duplicates={one: ledger.duplicates[one] for one in known if one in ledger.duplicates},
    )


def without(book: Book, gone: Coverage) -> Book:
    """Return a book in which these ids are not held."""
    if not gone:
        return book
    series = {
        one: SeriesGaps.of(tuple(outside(known.held, gone.get(one, ()))), known.holes)
        for one, known in book.series.items()
    }
    broken = frozenset(one for one, known in series.items() if len(known.held) > 1)
    return replace(book, series=series, broken=broken)


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


def series_held(book: Book, beyond: Beyond) -> list[Series]:
    """Return the series of which anything is held, in order."""
    stored = {series for series, known in book.series.items() if known.held}
    return sorted(stored.union(beyond.held))


def ends_of(series: Series, book: Book, beyond: Beyond) -> Ids:
    """Return the first and last id held and the times of the first and last range."""
    parts = (book.series.get(series, NO_GAPS).held, beyond.held.get(series, ()))
    first = min((held[0] for held in parts if held), key=first_of)
    last = max((held[-1] for held in parts if held), key=last_of)
    return Ids(first.first, last.last, first.first_us, last.last_us)
