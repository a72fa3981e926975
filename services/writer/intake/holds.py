"""Partitions that are held because a burst of their records cannot be read, and their probes. Pure.

Each is tried again now and then: read on for one batch, which the batcher judges. It goes on by
itself where the batch reads, by hand, or where the log is about to forget what is held. One whose
record batch is none goes on where it is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from services.writer.backfill.plan import URGENT_AT, used_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libs.kafka.admin import Retention
    from services.writer.intake.positions import Partition


class Stage(Enum):
    """Where a hold stands."""

    WAITING = "waiting"
    PROBING = "probing"  # it is read, until there is a batch
    ASKED = "asked"  # the batcher has the batch


@dataclass(frozen=True, slots=True)
class Hold:
    """A partition that is not read on from `start`, and what is known of the records there."""

    partition: Partition
    generation: int
    start: int
    broken: int
    why: str
    appended_ms: int
    bytes_per_position: float
    since_us: int = 0
    probe_at_s: float = 0.0
    stage: Stage = Stage.WAITING
    # Where not even the record batch can be read there is nothing to dead-letter.
    is_batch: bool = False

    @property
    def paused(self) -> bool:
        return self.stage is not Stage.PROBING

    def used(self, retention: Retention, *, log_end: int | None, now_us: int) -> float:
        """Say how much of the log's retention is used from here on."""
        age_s = max(0.0, now_us / 1e6 - self.appended_ms / 1e3) if self.appended_ms else 0.0
        positions = max(0, (log_end or self.start) - self.start)
        return used_of(age_s, positions * self.bytes_per_position, retention)

    def outlived(self, retention: Retention, *, log_end: int | None, now_us: int) -> bool:
        """Say whether half of the retention is used: then nothing waits that can be set aside."""
        return (
            not self.is_batch and self.used(retention, log_end=log_end, now_us=now_us) >= URGENT_AT
        )


Holds = dict["Partition", Hold]


def put(holds: Holds, told: Hold, *, now_us: int, probe_at_s: float) -> Holds:
    """Hold a partition, or go on holding it after a probe that failed."""
    before = holds.get(told.partition)
    same = before is not None and before.generation == told.generation
    since_us = before.since_us if before is not None and same else now_us
    hold = replace(told, since_us=since_us, probe_at_s=probe_at_s, stage=Stage.WAITING)
    return {**holds, told.partition: hold}


def without(holds: Holds, partition: Partition, generation: int) -> Holds:
    return {p: h for p, h in holds.items() if (p, h.generation) != (partition, generation)}


def current(holds: Holds, generations: Mapping[Partition, int | None]) -> Holds:
    """Forget holds of placings that are over: what comes anew is judged anew."""
    return {p: hold for p, hold in holds.items() if generations.get(p) == hold.generation}


def due(holds: Holds, now_s: float) -> tuple[Hold, ...]:
    return tuple(
        hold for hold in holds.values() if hold.stage is Stage.WAITING and now_s >= hold.probe_at_s
    )


def at_stage(holds: Holds, partition: Partition, stage: Stage) -> Holds:
    hold = holds.get(partition)
    return holds if hold is None else {**holds, partition: replace(hold, stage=stage)}
