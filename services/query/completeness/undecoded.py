"""Records that were read and are no rows: lacking until a commit says what became of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from libs.lake.commits.seam import Seam, TopicPartition, offset_at
from libs.lake.ledger.ledger import Dead, Ledger, joined

Undecoded = Mapping[TopicPartition, tuple[Dead, ...]]

NONE: Undecoded = {}
# Beyond so many a partition's are told as one range: a flood of them is one finding, not memory.
MOST_RANGES = 1_024


def with_more(undecoded: Undecoded, more: Mapping[TopicPartition, Sequence[Dead]]) -> Undecoded:
    """Add what was read; what was read before counts once."""
    if not more:
        return undecoded
    both = {position: [*undecoded.get(position, ()), *dead] for position, dead in more.items()}
    return {**undecoded, **{position: told(dead) for position, dead in both.items()}}


def told(dead: Sequence[Dead]) -> tuple[Dead, ...]:
    ranges = joined(dead)
    if len(ranges) <= MOST_RANGES:
        return ranges
    start, end = ranges[0].start, max(one.end for one in ranges)
    return (Dead(start, end, "", "MANY", ranges[-1].at_us),)


def waiting(undecoded: Undecoded, seam: Seam, ledger: Ledger) -> Undecoded:
    """Return those that a commit has not passed, or has put off."""
    left = {
        position: tuple(still(dead, position, seam, ledger)) for position, dead in undecoded.items()
    }
    return {position: dead for position, dead in left.items() if dead}


def still(
    dead: Iterable[Dead], position: TopicPartition, seam: Seam, ledger: Ledger
) -> Iterator[Dead]:
    floor, shed = offset_at(seam, position), ledger.book(position).shed
    for one in dead:
        put_off = any(range_.start < one.end and one.start < range_.end for range_ in shed)
        if put_off:
            yield one
        elif one.end > floor:
            yield one._replace(start=max(one.start, floor))
