"""The fences: which partitions of a prepared commit a head lets in. Pure, one for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from libs.lake.commits.head import Head
from libs.lake.commits.prepared import Kind, LakeFile, Prepared
from libs.lake.commits.seam import OffsetRange, Ranges, Seam, TopicPartition, advance, offset_at
from libs.lake.ledger.coverage import IdRanges, Ids, overlaps, union
from libs.lake.ledger.ledger import (
    Holes,
    Ledger,
    Lost,
    closed,
    entered,
    open_shed,
    with_holes,
    with_lost,
)

Fence = Callable[[Head, TopicPartition, OffsetRange], bool]


def starts_at_seam(head: Head, position: TopicPartition, covered: OffsetRange) -> bool:
    return offset_at(head.seam, position) == covered.start


def is_shed(head: Head, position: TopicPartition, covered: OffsetRange) -> bool:
    """Say whether all of the range lies in shed ranges that are still open."""
    return bool(open_shed(head.ledger, position, covered.start, covered.end))


def may_be_lost(head: Head, position: TopicPartition, covered: OffsetRange) -> bool:
    return starts_at_seam(head, position, covered) or is_shed(head, position, covered)


FENCES: Mapping[Kind, Fence] = {
    Kind.APPEND: starts_at_seam,
    Kind.LOST: may_be_lost,
    Kind.BACKFILL: is_shed,
}


def valid_ranges(head: Head, prepared: Prepared, *, oldest_us: int = 0) -> Ranges:
    """Return the ranges whose fence holds, less those that lean on one that is left out.

    One with a file begun before `oldest_us` is left out too.
    """
    if not prepared.ranges:
        return {}
    holds = FENCES[prepared.kind]
    outdated = {file.position for file in prepared.files if 0 < file.written_us < oldest_us}
    valid = {
        at: covered
        for at, covered in prepared.ranges.items()
        if at not in outdated and holds(head, at, covered)
    }
    while alone := [at for at in valid if not prepared.leans.get(at, frozenset()) <= valid.keys()]:
        for at in alone:
            del valid[at]
    return valid


def repeated(head: Head, files: Iterable[LakeFile]) -> tuple[LakeFile, ...]:
    """Return the files with an id that the table, or a file before them, holds already."""
    taken, found = head.ledger.coverage, []
    for file in files:
        if overlaps(taken, file.claims):
            found.append(file)
        taken = union(taken, file.claims)
    return tuple(found)


def held_holes(head: Head, holes: Holes) -> IdRanges:
    """Return the ids declared not to exist that the table holds."""
    declared = {
        series: tuple(Ids(hole.first, hole.last, 0, 0) for hole in some)
        for series, some in holes.items()
    }
    return overlaps(head.ledger.coverage, declared)


def seam_after(head: Head, valid: Ranges) -> Seam:
    """Return the seam; what lies behind it does not move it."""
    ahead = {at: extent for at, extent in valid.items() if starts_at_seam(head, at, extent)}
    return advance(head.seam, ahead)


def ledger_after(
    ledger: Ledger, prepared: Prepared, valid: Ranges, files: Iterable[LakeFile], at_us: int
) -> Ledger:
    """Return the head's ledger with what those parts add that are let in."""
    accounts = {at: account for at, account in prepared.accounts.items() if at in valid}
    ledger = entered(ledger, accounts, (file.claims for file in files))
    ledger = with_holes(ledger, prepared.holes)
    if prepared.kind is Kind.APPEND:
        return ledger
    for position, (start, end) in valid.items():
        if prepared.kind is Kind.LOST:
            shed = open_shed(ledger, position, start, end)
            lost = [Lost(one.start, one.end, at_us, one.symbols) for one in shed]
            ledger = with_lost(ledger, position, lost or [Lost(start, end, at_us)])
        ledger = closed(ledger, position, start, end)
    return ledger
