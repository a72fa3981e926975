"""Offsets by topic and partition: the seam, the tail's end, the end of the log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

Offsets = Mapping[str, Mapping[int, int]]


class Bound(NamedTuple):
    """An offset of one partition."""

    topic: str
    partition: int
    offset: int


def offset_at(offsets: Offsets, topic: str, partition: int) -> int:
    """Return the offset of a partition; one that is not named stands at 0."""
    return offsets.get(topic, {}).get(partition, 0)


def without(offsets: Offsets, left_out: Collection[tuple[str, int]]) -> Offsets:
    """Return the offsets of all other partitions."""
    return {
        topic: {p: offset for p, offset in partitions.items() if (topic, p) not in left_out}
        for topic, partitions in offsets.items()
    }


def each(offsets: Offsets) -> Iterator[Bound]:
    for topic, partitions in offsets.items():
        for partition, offset in partitions.items():
            yield Bound(topic, partition, offset)


def furthest(left: Offsets, right: Offsets) -> Offsets:
    """Return the larger offset of every partition that either names."""
    topics = {topic: dict(partitions) for topic, partitions in left.items()}
    for topic, partition, offset in each(right):
        known = topics.setdefault(topic, {})
        known[partition] = max(offset, known.get(partition, 0))
    return topics


def ahead(offsets: Offsets, of: Offsets) -> list[Bound]:
    """Return the bounds in `of` that `offsets` passes: rows beyond them may be there."""
    return [
        Bound(topic, partition, offset_at(of, topic, partition))
        for topic, partition, offset in each(offsets)
        if offset > offset_at(of, topic, partition)
    ]


def distance(start: Offsets, end: Offsets) -> int:
    """Return how many offsets lie from `start` to `end`, over the partitions of `end`."""
    return sum(
        max(0, offset - offset_at(start, topic, partition))
        for topic, partition, offset in each(end)
    )
