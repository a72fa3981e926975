"""The maintainer: keeps the files of the partitions this writer has, and gives way to ingest.

The owner of a partition compacts its files; the owner of partition 0 of the first topic also
expires snapshots and removes orphans. Two that think they own the same, in a rebalance, do no
harm: each step has its own fence in the table.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from libs.degradation.level import Level
from libs.lake.maintenance.compaction import Partition
from libs.lake.maintenance.upkeep import Maintenance
from libs.market.clock import Clock
from libs.market.errors import K2Error
from libs.runtime.actor import Actor
from services.writer.maintenance import metrics
from services.writer.maintenance.courtesy import Courtesy
from services.writer.maintenance.steps import (
    Journal,
    Outcome,
    Step,
    Task,
    compaction_step,
    expiry_step,
    orphan_step,
)
from services.writer.maintenance.upkeep import Piece, Upkeep, attempted

log = structlog.get_logger()
R = TypeVar("R")

# Below this the kernel runs ingest first, whenever it has anything to run.
NICENESS = 10
LOOK_AGAIN_S = 0.2
# After a failure its files are left alone so long: what is wrong with them will not pass at once.
LEFT_ALONE_S = 600.0
EVERY_TASK = frozenset(Task)
STOPPING = "the writer stops"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the maintainer must know of the rest of its process."""

    assigned: Callable[[], frozenset[tuple[str, int]]]
    level: Callable[[], Level]
    committing: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often it looks, and how much it takes."""

    enabled: bool = True
    interval_s: float = 30.0
    orphan_interval_s: float = 21_600.0
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that somebody asked for."""

    number: int
    tasks: frozenset[Task]
    every_day: bool


class Maintainer(Actor):
    """Works in a thread of its own, one bounded step at a time."""

    name = "maintainer"

    def __init__(
        self,
        maintenance: Maintenance,
        topics: Collection[str],
        around: Surroundings,
        rhythm: Rhythm,
        clock: Clock,
    ) -> None:
        self.journal = Journal()
        self.rhythm = rhythm
        self.next_round_us = 0
        self._maintenance = maintenance
        self._upkeep = Upkeep(maintenance)
        self._topics = frozenset(topics)
        self._around = around
        self._clock = clock
        self._asked: list[Asked] = []
        self._wake = asyncio.Event()
        self._stopping = threading.Event()
        self._orphans_due_s = clock.monotonic_s() + rhythm.orphan_interval_s
        self._left_alone: dict[Partition, float] = {}
        self._courtesy: Courtesy | None = None
        self._worker = ThreadPoolExecutor(1, "maintenance", initializer=be_nice)
        self._looker = ThreadPoolExecutor(1, "maintenance-look", initializer=be_nice)

    @property
    def leads(self) -> bool:
        """Whether expiry and orphans are this writer's."""
        return bool(self._topics) and (min(self._topics), 0) in self._around.assigned()

    @property
    def waits_because(self) -> str:
        """Say why nothing may be done now; empty where it may."""
        if self._stopping.is_set():
            return STOPPING
        level = self._around.level()
        return f"the level is {level.name}" if level >= Level.SOFT else ""

    @property
    def running(self) -> Step | None:
        """The step under way, with how far it is."""
        step = self.journal.running
        rows = self._courtesy.rows if self._courtesy else 0
        return replace(step, rows_done=rows) if step is not None else None

    def ask(self, tasks: Collection[Task], *, every_day: bool) -> int:
        """Put a run on the list, and return its number."""
        self.journal.asked_runs += 1
        number = self.journal.asked_runs
        self._asked.append(Asked(number, frozenset(tasks) or EVERY_TASK, every_day))
        self._wake.set()
        return number

    async def would_do(self, tasks: Collection[Task], *, every_day: bool) -> list[Step]:
        """Say what a run would do now, changing nothing."""
        wanted, leads, owns = frozenset(tasks) or EVERY_TASK, self.leads, self._ownership()

        def look() -> list[Step]:
            steps: list[Step] = []
            if Task.COMPACT in wanted:
                steps += map(compaction_step, self._maintenance.plan(owns, asked=every_day))
            if Task.EXPIRE in wanted and leads:
                steps += expiry_step(self._maintenance.expirable(), self._maintenance.waiting())
            if Task.REMOVE_ORPHANS in wanted and leads:
                steps += orphan_step(self._maintenance.orphans())
            return steps

        return await asyncio.get_running_loop().run_in_executor(self._looker, look)

    async def run(self) -> None:
        while not self._stopping.is_set():
            await self._until_due()
            if self._asked:
                asked = self._asked.pop(0)
                await self._round(asked.tasks, every_day=asked.every_day, patient=True)
                self.journal.last_ended_run = asked.number
            elif self.rhythm.enabled and not self.waits_because:
                await self._round(self._due_tasks())

    async def stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def release(self) -> None:
        for thread in (self._worker, self._looker):
            thread.shutdown(wait=False, cancel_futures=True)

    async def _until_due(self) -> None:
        """Wait for the next round, or until somebody asks."""
        self.next_round_us = self._clock.now_us() + int(self.rhythm.interval_s * 1e6)
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._asked else self.rhythm.interval_s):
                await self._wake.wait()
        self._wake.clear()

    def _due_tasks(self) -> frozenset[Task]:
        """Return what a round does; orphans are looked for rarely, for that lists every file."""
        now_s = self._clock.monotonic_s()
        if now_s < self._orphans_due_s:
            return EVERY_TASK - {Task.REMOVE_ORPHANS}
        self._orphans_due_s = now_s + self.rhythm.orphan_interval_s
        return EVERY_TASK

    async def _round(
        self, tasks: frozenset[Task], *, every_day: bool = False, patient: bool = False
    ) -> None:
        """Do what is due; where it must stop, a patient round waits and goes on."""
        pieces: list[Piece] = []
        if Task.COMPACT in tasks:
            pieces += await self._compactions(every_day=every_day, asked=patient)
        if self.leads:
            pieces += self._upkeep.pieces(tasks)
        for piece in pieces:
            while patient and self.waits_because and not self._stopping.is_set():
                await asyncio.sleep(LOOK_AGAIN_S)
            if self.waits_because:
                return
            await self._do(piece)

    async def _compactions(self, *, every_day: bool, asked: bool) -> list[Piece]:
        owns, now_s = self._ownership(), self._clock.monotonic_s()
        try:
            jobs = await self._blocking(lambda: self._maintenance.plan(owns, asked=every_day))
        except (K2Error, OSError) as error:
            failed = Step(Task.COMPACT, "the plan", outcome=Outcome.FAILED, reason=str(error))
            self._end(failed)
            return []
        metrics.DUE.set(len(jobs))
        self._left_alone = {p: s for p, s in self._left_alone.items() if s > now_s}
        left_alone = set() if asked else self._left_alone.keys()
        return [self._upkeep.compaction(job) for job in jobs if job.partition not in left_alone]

    async def _do(self, piece: Piece) -> None:
        courtesy = Courtesy(
            lambda: self.waits_because, self._around.committing, share=self.rhythm.share
        )
        started = replace(piece.step, outcome=Outcome.RUNNING, start_us=self._clock.now_us())
        self._courtesy, self.journal.running = courtesy, started
        with metrics.STEP_SECONDS.labels(piece.step.task.value).time():
            done = await self._blocking(lambda: attempted(piece, courtesy))
        if done.outcome is Outcome.FAILED and piece.job is not None:
            self._left_alone[piece.job.partition] = self._clock.monotonic_s() + LEFT_ALONE_S
        self._end(replace(done, start_us=started.start_us))

    def _end(self, step: Step) -> None:
        self.journal.end(replace(step, end_us=self._clock.now_us()))
        metrics.STEPS.labels(step.task.value, step.outcome.value).inc()
        if step.outcome is Outcome.FAILED:
            log.warning("maintenance_failed", task=step.task, what=step.what, error=step.reason)
        if step.outcome is not Outcome.DONE or not (step.files or step.snapshots):
            return
        if step.task is Task.COMPACT:
            metrics.COMPACTED_FILES.inc(step.files)
            metrics.COMPACTED_ROWS.inc(step.rows)
        else:
            metrics.DELETED_FILES.labels(step.task.value).inc(step.files)
        log.info("maintained", task=step.task, what=step.what, files=step.files, rows=step.rows)

    def _ownership(self) -> Callable[[Partition], bool]:
        """Return who owns what now; files of no topic of ours go with partition 0."""
        assigned, leads, topics = self._around.assigned(), self.leads, self._topics

        def owns(partition: Partition) -> bool:
            if partition.topic in topics:
                return (partition.topic, partition.kafka_partition) in assigned
            return leads

        return owns

    async def _blocking(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)


def be_nice() -> None:
    """Lower this thread's priority, where the system has one for each thread."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
