"""How far a consumer group's decoding is behind the log. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from libs.degradation.messages import Partition

# Ends are kept a little longer than the oldest report that counts.
SPARE_S = 1.0
# A hold is forgotten where its partition is placed anew, until its records are met again.
HOLD_REMEMBERED_S = 30.0


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """Both offsets are of one moment. `held`: it waits at records that cannot be read.

    `live`: a process speaks for it.
    """

    topic: str
    partition: int
    end_offset: int
    decoded_offset: int
    held: bool = False
    live: bool = False

    @property
    def place(self) -> Partition:
        return (self.topic, self.partition)

    @property
    def lag(self) -> int:
        return max(0, self.end_offset - self.decoded_offset)


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One reading of one group. While `known` is false the partitions are those of the last one.

    `why` says what hindered it then. `log_end` is the sum of all ends as they are now, later than
    those of most partitions.
    """

    group: str
    partitions: tuple[PartitionLag, ...] = ()
    known: bool = False
    log_end: int = 0
    why: str = ""

    @property
    def lag(self) -> int:
        return sum(partition.lag for partition in self.partitions)

    @property
    def held_lag(self) -> int:
        return sum(partition.lag for partition in self.partitions if partition.held)

    @property
    def pressing(self) -> int:
        """The lag that a level can help: all but that of held partitions."""
        return self.lag - self.held_lag

    def hot(self, share: float) -> PartitionLag | None:
        """The partition that alone has such a share of the pressing lag, where there is one."""
        reads = [partition for partition in self.partitions if not partition.held]
        if len(reads) < 2:
            return None
        worst = max(reads, key=lambda partition: partition.lag)
        return worst if worst.lag and worst.lag >= share * self.pressing else None


@dataclass(frozen=True, slots=True)
class LogBounds:
    """First offset still in the log, and the one after its last."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Reported:
    """What a live process said of a partition: its position at that moment."""

    offset: int
    at_s: float
    held: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """All bounds at one moment."""

    at_s: float
    bounds: Mapping[Partition, LogBounds]


@dataclass(frozen=True, slots=True)
class Looks:
    """The newest looks at the log, the oldest first; at least one."""

    looks: tuple[Look, ...]

    @property
    def newest(self) -> Look:
        return self.looks[-1]

    def and_then(self, look: Look, *, keep_s: float) -> Looks:
        """Add a look; forget those that no report which counts can be older than."""
        kept = [one for one in self.looks if look.at_s - one.at_s <= keep_s + SPARE_S]
        return Looks((*kept, look))

    def end_at(self, partition: Partition, at_s: float) -> int:
        """Return where the partition ended at that moment; between two looks, in proportion."""
        for after, before in pairwise(reversed(self.looks)):
            between = before.at_s <= at_s < after.at_s
            if between and partition in before.bounds and partition in after.bounds:
                start, end = before.bounds[partition].end, after.bounds[partition].end
                passed = (at_s - before.at_s) / (after.at_s - before.at_s)
                return start + round((end - start) * passed)
        return self.newest.bounds[partition].end


def group_lag(
    group: str,
    looks: Looks,
    committed: Mapping[Partition, int],
    reported: Mapping[Partition, Reported],
) -> GroupLag:
    """Measure each partition's end and position at the same moment.

    At 300,000 records a second a position that is a second old, against the end as it is now,
    makes a writer that keeps up look SOFT. So a live report is held against the end of its own
    moment. Where no process speaks for a partition, what the group has committed is held against
    the end now: nobody has read on since. Where nobody knows a position, the group starts at the
    log's start. What retention has deleted is not lag: it is loss.
    """
    bounds = looks.newest.bounds
    partitions = tuple(
        _reported_lag(place, looks, reported[place])
        if place in reported
        else PartitionLag(*place, log.end, max(committed.get(place, 0), log.begin))
        for place, log in sorted(bounds.items())
    )
    return GroupLag(group, partitions, known=True, log_end=sum(log.end for log in bounds.values()))


def _reported_lag(place: Partition, looks: Looks, said: Reported) -> PartitionLag:
    end = looks.end_at(place, said.at_s)
    position = max(said.offset, looks.newest.bounds[place].begin)
    return PartitionLag(*place, end, position, said.held, live=True)


@dataclass(frozen=True, slots=True)
class Hold:
    """Where a partition was held, and when that was last said."""

    offset: int
    said_at_s: float


Holds = Mapping[Partition, Hold]


def with_holds(group: GroupLag, before: Holds, now_s: float) -> tuple[GroupLag, Holds]:
    """Go on counting a partition as held that has not moved on since it was.

    Its new owner meets the records a moment later; meanwhile its lag would shed all others.
    """
    holds = {}
    for one in group.partitions:
        if one.held:
            holds[one.place] = Hold(one.decoded_offset, now_s)
        elif _still(before.get(one.place), one, now_s):
            holds[one.place] = before[one.place]
    marked = tuple(replace(one, held=one.place in holds) for one in group.partitions)
    return replace(group, partitions=marked), holds


def _still(hold: Hold | None, now: PartitionLag, now_s: float) -> bool:
    if hold is None or now_s - hold.said_at_s > HOLD_REMEMBERED_S:
        return False
    return now.decoded_offset <= hold.offset
