"""When failures are a burst: a bad deploy or a registry that is gone, and not bad data. Pure.

Poison alone is dead-lettered and passed by. Where half of what comes of a partition cannot be read
at all, and so much of it in a row, its batches are held instead: dead-lettering them would turn a
mistake of an hour into work for a week.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from libs.wire.rejection import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from libs.wire.rejection import Rejected
    from services.writer.intake.positions import Partition

# What whoever writes or registers wrongly causes; a price that does not fit is the exchange's.
BROKEN = frozenset({Reason.FRAMING, Reason.UNKNOWN_SCHEMA, Reason.UNDECODABLE})


@dataclass(frozen=True, slots=True)
class BurstRule:
    """So many unreadable records in a row of batches that are mostly unreadable."""

    records: int = 100
    share: float = 0.5

    def suspects(self, batch: Batch) -> bool:
        return batch.broken > 0 and batch.broken >= self.share * batch.records


@dataclass(frozen=True, slots=True)
class Batch:
    """What one decoded chunk is to the rule: positions [start, following), `broken` of records."""

    partition: Partition
    generation: int
    start: int
    following: int
    records: int
    broken: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A partition as placed. `streak_start` is where batches began to be suspect.

    None: what was suspect so far is on its way into the table's past.
    """

    generation: int
    broken: int = 0
    streak_start: int | None = None
    held_at: int | None = None
    accepted_until: int = 0


class Verdict(Enum):
    """What becomes of a decoded batch."""

    TAKE = "take"
    RELEASE = "release"  # it reads again: take it, and read on
    HOLD = "hold"  # go back to where the burst began, and try again later
    IGNORE = "ignore"  # it was fetched before the hold, and comes again after it


class Bursts:
    """Judges the batches of each partition in their order."""

    def __init__(self, rule: BurstRule) -> None:
        self._rule = rule
        self._watched: dict[Partition, Watched] = {}

    def judge(self, batch: Batch) -> tuple[Watched, Verdict]:
        """Say what becomes of a batch; what follows of it is to be noted once that is done."""
        before = self._watched.get(batch.partition)
        if before is None or before.generation != batch.generation:
            before = Watched(batch.generation)
        return judged(before, batch, self._rule)

    def note(self, partition: Partition, after: Watched) -> None:
        """Go on from what a batch was judged to be.

        Before that it may be judged again: nobody who has to hear of a hold is left out.
        """
        self._watched[partition] = after

    def accept(self, partition: Partition, generation: int, until: int) -> None:
        """Hold nothing that begins below `until`: it is dead-lettered as any other."""
        self._watched[partition] = Watched(generation, accepted_until=until)

    def flushed(self) -> None:
        """Everything taken so far is on its way into the table: no hold goes back behind it."""
        for partition, watched in self._watched.items():
            self._watched[partition] = replace(watched, streak_start=None)


def judged(before: Watched, batch: Batch, rule: BurstRule) -> tuple[Watched, Verdict]:
    if before.held_at is not None:
        return judged_again(before, batch, rule)
    if batch.start < before.accepted_until or not batch.records:
        return before, Verdict.TAKE
    if not rule.suspects(batch):
        return replace(before, broken=0, streak_start=None), Verdict.TAKE
    start = batch.start if before.streak_start is None else before.streak_start
    after = replace(before, broken=before.broken + batch.broken, streak_start=start)
    if after.broken < rule.records:
        return after, Verdict.TAKE
    return replace(after, held_at=start), Verdict.HOLD


def judged_again(before: Watched, batch: Batch, rule: BurstRule) -> tuple[Watched, Verdict]:
    """Judge what comes of a held partition: only what begins where it is held is a probe."""
    if batch.start != before.held_at:
        return before, Verdict.IGNORE
    if rule.suspects(batch):
        return before, Verdict.HOLD
    return Watched(before.generation), Verdict.RELEASE


def broken_among(rejected: Iterable[Rejected]) -> int:
    return sum(one.reason in BROKEN for one in rejected)
