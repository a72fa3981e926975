"""Steps of maintenance as they are shown: what, why, and what came of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from libs.lake.maintenance.compaction import Job
from libs.lake.maintenance.orphans import Orphans

REMEMBERED = 50


class Task(StrEnum):
    COMPACT = "compact"
    EXPIRE = "expire"
    REMOVE_ORPHANS = "remove_orphans"


class Outcome(StrEnum):
    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    YIELDED = "yielded"
    SUPERSEDED = "superseded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One bounded piece of work; `files_after` and `size_bytes_after` are there when it is done."""

    task: Task
    what: str
    why: str = ""
    outcome: Outcome = Outcome.PLANNED
    reason: str = ""
    files: int = 0
    rows: int = 0
    size_bytes: int = 0
    files_after: int = 0
    size_bytes_after: int = 0
    rows_done: int = 0
    snapshots: int = 0
    start_us: int = 0
    end_us: int = 0


def compaction_step(job: Job) -> Step:
    return Step(
        Task.COMPACT,
        str(job.partition),
        job.why.value,
        files=len(job.files),
        rows=job.rows,
        size_bytes=job.size_bytes,
    )


def orphan_step(found: Orphans) -> list[Step]:
    """Return the step that removes what was found, none where nothing was."""
    if not found.files:
        return []
    return [
        Step(
            Task.REMOVE_ORPHANS,
            "files of no snapshot",
            files=len(found.files),
            size_bytes=found.size_bytes,
        )
    ]


def expiry_step(snapshots: int, notes: tuple[int, int]) -> list[Step]:
    """Return the steps that expire: `notes` are those that wait, and those that are due."""
    _, due = notes
    forget = Step(Task.EXPIRE, "old snapshots", snapshots=snapshots)
    sweep = Step(Task.EXPIRE, "files of forgotten snapshots", f"{due} batches are due")
    return [*([forget] if snapshots else []), *([sweep] if due else [])]


@dataclass(slots=True)
class Journal:
    """What maintenance has done in this process. For one event loop."""

    running: Step | None = None
    ended: deque[Step] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    compactions: int = 0
    files_compacted: int = 0
    snapshots_forgotten: int = 0
    files_deleted: int = 0
    failures: int = 0
    asked_runs: int = 0
    last_ended_run: int = 0

    def end(self, step: Step) -> None:
        """Take in how a step ended."""
        self.running = None
        nothing_to_tell = step.outcome is Outcome.DONE and not (step.files or step.snapshots)
        if not nothing_to_tell:
            self.ended.appendleft(step)
        self.failures += step.outcome is Outcome.FAILED
        if step.outcome is not Outcome.DONE:
            return
        if step.task is Task.COMPACT:
            self.compactions += 1
            self.files_compacted += step.files
            return
        self.files_deleted += step.files
        self.snapshots_forgotten += step.snapshots
