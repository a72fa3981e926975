"""Which data files are worth writing anew as fewer, larger ones. Pure.

A day that is over is brought to files of the target size once nothing has come for a while. While
a day is still written, files of a like size are merged when they have become many: each row is
then written some three times in all, and the number of files grows with the logarithm of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple

from libs.lake.files.index import FileEntry
from libs.market.trade import DAY_US

FIRST_DAY = date(1970, 1, 1)
MIB = 1 << 20
# Within three quarters of the target a file is as good as whole: writing it again gains nothing.
WHOLE_SHARE = 0.75
SMALLEST_TIER_BYTES = 64 << 10
TIER_FACTOR = 4


class Partition(NamedTuple):
    """Files that may become one: a day and bucket, of one Kafka partition (none: they mix)."""

    day: int
    bucket: int
    topic: str
    kafka_partition: int

    def __str__(self) -> str:
        day = FIRST_DAY + timedelta(days=self.day)
        return f"{day}, bucket {self.bucket}" + (f" of {self.topic}" if self.topic else "")


class Why(StrEnum):
    CLOSED = "the day is over"
    MANY = "many small files"
    ASKED = "asked for"


@dataclass(frozen=True, slots=True)
class CompactionPolicy:
    """When to compact; sizes are bytes on disk."""

    target_bytes: int = 128 * MIB
    # So many files of a like size become one while their day is still written.
    merge_at: int = 16
    # A day is over so long after its end,
    grace_us: int = 3_600_000_000
    # and its files are merged once none has come for so long.
    quiet_s: float = 600.0
    # One rewrite takes in no more than this: it bounds what is lost when it is given up.
    most_input_bytes: int = 512 * MIB
    most_input_files: int = 256


@dataclass(frozen=True, slots=True)
class Job:
    """One rewrite: these files become as few as their size allows."""

    partition: Partition
    files: tuple[FileEntry, ...]
    why: Why

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


Unchanged = Callable[[Partition], float]


def plan_compaction(
    files: Iterable[FileEntry],
    policy: CompactionPolicy,
    *,
    now_us: int,
    unchanged_s: Unchanged,
    asked: bool = False,
) -> list[Job]:
    """Return the rewrites that are due, those of most files first.

    `unchanged_s` says for how long a partition's files have been the same. `asked` takes every
    partition as closed, at once.
    """
    jobs: list[Job] = []
    for partition, held in by_partition(files).items():
        small = [file for file in held if file.size_bytes < policy.target_bytes * WHOLE_SHARE]
        closed = day_is_over(partition.day, policy, now_us=now_us)
        if asked or (closed and unchanged_s(partition) >= policy.quiet_s):
            why = Why.ASKED if asked else Why.CLOSED
            jobs += [Job(partition, chosen, why) for chosen in packed(small, policy)]
        else:
            jobs += [Job(partition, chosen, Why.MANY) for chosen in crowded(small, policy)]
    return sorted(jobs, key=lambda job: (-len(job.files), job.partition))


def by_partition(files: Iterable[FileEntry]) -> dict[Partition, list[FileEntry]]:
    """Group files, each group oldest offsets first."""
    groups: dict[Partition, list[FileEntry]] = {}
    for file in sorted(files, key=lambda file: (file.offset_min, file.path)):
        groups.setdefault(partition_of(file), []).append(file)
    return groups


def partition_of(file: FileEntry) -> Partition:
    position = file.position
    if position is None:
        return Partition(file.day, file.bucket, "", -1)
    return Partition(file.day, file.bucket, *position)


def day_is_over(day: int, policy: CompactionPolicy, *, now_us: int) -> bool:
    return now_us >= (day + 1) * DAY_US + policy.grace_us


def packed(files: Sequence[FileEntry], policy: CompactionPolicy) -> Iterator[tuple[FileEntry, ...]]:
    """Yield the files in batches that one rewrite takes in; a file alone stays as it is."""
    batch: list[FileEntry] = []
    for file in files:
        if batch and not fits(batch, file, policy):
            yield from worth_it(batch)
            batch = []
        batch.append(file)
    yield from worth_it(batch)


def fits(batch: Sequence[FileEntry], file: FileEntry, policy: CompactionPolicy) -> bool:
    size_bytes = sum(held.size_bytes for held in batch) + file.size_bytes
    return size_bytes <= policy.most_input_bytes and len(batch) < policy.most_input_files


def worth_it(batch: Sequence[FileEntry]) -> Iterator[tuple[FileEntry, ...]]:
    if len(batch) > 1:
        yield tuple(batch)


def crowded(
    files: Sequence[FileEntry], policy: CompactionPolicy
) -> Iterator[tuple[FileEntry, ...]]:
    """Yield the files of each size that have become many."""
    tiers: dict[int, list[FileEntry]] = {}
    for file in files:
        tiers.setdefault(tier_of(file.size_bytes), []).append(file)
    for held in tiers.values():
        if len(held) >= policy.merge_at:
            yield from packed(held, policy)


def tier_of(size_bytes: int) -> int:
    """Return the class of size: each holds files up to four times as large as the one below."""
    tier = 0
    while size_bytes > SMALLEST_TIER_BYTES * TIER_FACTOR**tier:
        tier += 1
    return tier
