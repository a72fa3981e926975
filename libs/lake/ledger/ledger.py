"""The ledger: what became of every position below the seam, and which trades are held. Pure.

Stored is what remains: a position that is in no book was stored, dropped as a duplicate, or no
record. Each ledger is made from the one before it and never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain
from typing import NamedTuple, TypeVar

from libs.lake.commits.seam import Seam, TopicPartition
from libs.lake.ledger.coverage import (
    EMPTY_COVERAGE,
    Counts,
    Coverage,
    Held,
    Ids,
    Series,
    common_ids,
    union,
)
from libs.lake.ledger.timeline import NO_LINES, Lines, add_line


class Shed(NamedTuple):
    """Positions [start, end): records whose key is in `symbols` are not stored yet, others are.

    `records` is how many those are: exactly, as long as the range is whole.
    """

    start: int
    end: int
    classes: tuple[str, ...]
    policy: str
    symbols: tuple[str, ...]
    records: int
    at_us: int


class Dead(NamedTuple):
    """Positions [start, end) went to the dead letters; symbol "" where the key is not known."""

    start: int
    end: int
    symbol: str
    reason: str
    at_us: int


class Lost(NamedTuple):
    """Positions [start, end) left the log before they were stored.

    Where `symbols` are named, their records alone: the range had been shed.
    """

    start: int
    end: int
    at_us: int
    symbols: tuple[str, ...] = ()


class Hole(NamedTuple):
    """Ids first to last do not exist at the venue, so it was declared."""

    first: int
    last: int
    why: str
    at_us: int


@dataclass(frozen=True, slots=True)
class PartitionBook:
    """What was not simply stored of one partition; each kind sorted and disjoint."""

    shed: tuple[Shed, ...] = ()
    dead: tuple[Dead, ...] = ()
    lost: tuple[Lost, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """What one commit adds for one partition, beside its rows."""

    dead: tuple[Dead, ...] = ()
    shed: tuple[Shed, ...] = ()
    duplicates: Counts = field(default_factory=dict)


Books = Mapping[TopicPartition, PartitionBook]
Holes = Mapping[Series, tuple[Hole, ...]]
Accounts = Mapping[TopicPartition, Account]

EMPTY_BOOK = PartitionBook()


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything K2 must know of the table beside its rows."""

    partitions: Books = field(default_factory=dict)
    coverage: Coverage = field(default_factory=dict)
    holes: Holes = field(default_factory=dict)
    duplicates: Counts = field(default_factory=dict)
    lines: Lines = NO_LINES

    def book(self, position: TopicPartition) -> PartitionBook:
        return self.partitions.get(position, EMPTY_BOOK)


EMPTY_LEDGER = Ledger()

R = TypeVar("R", Shed, Dead, Lost)


def entered(ledger: Ledger, accounts: Accounts, claims: Iterable[Coverage]) -> Ledger:
    """Return the ledger with what a commit adds."""
    claimed = reduce(union, claims, EMPTY_COVERAGE)
    books = dict(ledger.partitions)
    for position, account in accounts.items():
        if account.dead or account.shed:
            books[position] = with_account(ledger.book(position), account)
    return replace(
        ledger,
        partitions=books,
        coverage=union(ledger.coverage, claimed),
        holes=still_missing(ledger.holes, claimed),
        duplicates=add_counts(ledger.duplicates, (a.duplicates for a in accounts.values())),
    )


def still_missing(holes: Holes, claimed: Coverage) -> Holes:
    """Return the holes without the ids that turned up after all."""
    if not holes.keys() & claimed.keys():
        return holes
    left = {
        series: tuple(chain.from_iterable(uncovered(h, claimed.get(series, ())) for h in some))
        for series, some in holes.items()
    }
    return {series: some for series, some in left.items() if some}


def uncovered(hole: Hole, held: Held) -> Iterator[Hole]:
    first = hole.first
    for found in common_ids(held, (Ids(hole.first, hole.last, 0, 0),)):
        if first < found.first:
            yield hole._replace(first=first, last=found.first - 1)
        first = found.last + 1
    if first <= hole.last:
        yield hole._replace(first=first)


def with_account(book: PartitionBook, account: Account) -> PartitionBook:
    return PartitionBook(
        shed=joined((*book.shed, *account.shed)),
        dead=joined((*book.dead, *account.dead)),
        lost=book.lost,
    )


def with_lost(ledger: Ledger, position: TopicPartition, lost: Iterable[Lost]) -> Ledger:
    book = ledger.book(position)
    return with_book(ledger, position, replace(book, lost=joined((*book.lost, *lost))))


def with_holes(ledger: Ledger, holes: Holes) -> Ledger:
    """Return the ledger with these holes; what was declared before stays as it was."""
    declared = {
        series: all_holes(ledger.holes.get(series, ()), added) for series, added in holes.items()
    }
    return replace(ledger, holes={**ledger.holes, **declared})


def all_holes(before: tuple[Hole, ...], added: Iterable[Hole]) -> tuple[Hole, ...]:
    known = tuple(Ids(hole.first, hole.last, 0, 0) for hole in before)
    fresh = chain.from_iterable(uncovered(hole, known) for hole in added)
    return tuple(sorted({*before, *fresh}))


def with_lines(ledger: Ledger, lines: Lines) -> Ledger:
    return ledger if lines == ledger.lines else replace(ledger, lines=lines)


def with_line(ledger: Ledger, time_us: int, offsets: Seam) -> Ledger:
    return replace(ledger, lines=add_line(ledger.lines, time_us, offsets))


def with_book(ledger: Ledger, position: TopicPartition, book: PartitionBook) -> Ledger:
    return replace(ledger, partitions={**ledger.partitions, position: book})


def add_counts(counts: Counts, more: Iterable[Counts]) -> Counts:
    total = dict(counts)
    for series, count in chain.from_iterable(added.items() for added in more):
        total[series] = total.get(series, 0) + count
    return total


def open_shed(ledger: Ledger, position: TopicPartition, start: int, end: int) -> tuple[Shed, ...]:
    """Return the shed ranges of [start, end) cut to it, empty unless they cover all of it."""
    cut = tuple(within(ledger.book(position).shed, start, end))
    whole = sum(shed.end - shed.start for shed in cut) == end - start
    return cut if whole else ()


def closed(ledger: Ledger, position: TopicPartition, start: int, end: int) -> Ledger:
    """Return the ledger with nothing of [start, end) shed any more."""
    book = ledger.book(position)
    shed = tuple(outside(book.shed, start, end))
    return with_book(ledger, position, replace(book, shed=shed))


def within(ranges: Iterable[R], start: int, end: int) -> Iterator[R]:
    """Yield the ranges cut to [start, end)."""
    for one in ranges:
        if one.start < end and one.end > start:
            yield part_of(one, max(one.start, start), min(one.end, end))


def outside(ranges: Iterable[R], start: int, end: int) -> Iterator[R]:
    """Yield what of the ranges is not in [start, end)."""
    for one in ranges:
        if one.start < min(one.end, start):
            yield part_of(one, one.start, min(one.end, start))
        if one.end > max(one.start, end):
            yield part_of(one, max(one.start, end), one.end)


def part_of(one: R, start: int, end: int) -> R:
    """Return a part of a range; of a shed one's records it has about its share."""
    if isinstance(one, Shed):
        share = -(-one.records * (end - start) // (one.end - one.start))
        return one._replace(start=start, end=end, records=share)
    return one._replace(start=start, end=end)


def joined(ranges: Iterable[R]) -> tuple[R, ...]:
    """Return ranges in order, neighbours that say the same made one."""
    made: list[R] = []
    for one in sorted(set(ranges)):
        both = together(made[-1], one) if made and made[-1].end == one.start else None
        if both is None:
            made.append(one)
        else:
            made[-1] = both
    return tuple(made)


def together(before: R, after: R) -> R | None:
    """Return two neighbours as one, None where they say different things."""
    match before, after:
        case Shed(), Shed() if before[2:4] == after[2:4]:
            symbols = tuple(sorted({*before.symbols, *after.symbols}))
            records = before.records + after.records
            return before._replace(end=after.end, symbols=symbols, records=records)
        case (Dead(), Dead()) if before[2:4] == after[2:4]:
            return before._replace(end=after.end)
        case (Lost(), Lost()) if before[3:] == after[3:]:
            return before._replace(end=after.end)
    return None
