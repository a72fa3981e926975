"""How far a consumer group's decoding is behind the log. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.degradation.messages import Partition

# One partition with this share of the lag is what holds the group up.
HOT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class PartitionLag:
    topic: str
    partition: int
    end_offset: int
    decoded_offset: int

    @property
    def lag(self) -> int:
        return max(0, self.end_offset - self.decoded_offset)


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One reading of one group. While `known` is false the partitions are those of the last one."""

    group: str
    partitions: tuple[PartitionLag, ...] = ()
    known: bool = False

    @property
    def lag(self) -> int:
        return sum(partition.lag for partition in self.partitions)

    @property
    def hot(self) -> PartitionLag | None:
        """The partition that holds up all others, where there is one."""
        if len(self.partitions) < 2:
            return None
        worst = max(self.partitions, key=lambda partition: partition.lag)
        return worst if worst.lag and worst.lag >= HOT_SHARE * self.lag else None


@dataclass(frozen=True, slots=True)
class LogBounds:
    """First offset still in the log, and the one after its last."""

    begin: int
    end: int


def group_lag(
    group: str,
    bounds: Mapping[Partition, LogBounds],
    committed: Mapping[Partition, int],
    reported: Mapping[Partition, int],
) -> GroupLag:
    """Measure from the decoded positions that the group has committed.

    A live process' report stands in where nothing is committed yet; where nobody knows a position,
    the group starts at the log's start. What retention has deleted is not lag: it is loss.
    """
    partitions = tuple(
        PartitionLag(topic, partition, log.end, max(position, log.begin))
        for (topic, partition), log in sorted(bounds.items())
        for position in [_position((topic, partition), committed, reported)]
    )
    return GroupLag(group, partitions, known=True)


def _position(
    partition: Partition, committed: Mapping[Partition, int], reported: Mapping[Partition, int]
) -> int:
    return committed.get(partition, reported.get(partition, 0))
