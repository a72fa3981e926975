"""The steps of maintenance as they are done: in a thread, each ending with what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from libs.lake.maintenance.compaction import Job
from libs.lake.maintenance.rewriting import Pace
from libs.lake.maintenance.upkeep import Maintenance
from libs.market.errors import ConflictError, K2Error, UnavailableError
from services.writer.batching.memory import give_back
from services.writer.maintenance.courtesy import Courtesy, YieldedError
from services.writer.maintenance.steps import Outcome, Step, Task, compaction_step

Work = Callable[[Step, Courtesy], Step]

# What reading and writing files of others raises, beside our own errors.
TROUBLE = (K2Error, OSError, ValueError, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class Piece:
    """A step to do; `job` is what it compacts, where it compacts."""

    step: Step
    work: Work
    job: Job | None = None


class Upkeep:
    """Does steps. Blocking."""

    def __init__(self, maintenance: Maintenance) -> None:
        self._maintenance = maintenance

    def pieces(self, tasks: frozenset[Task]) -> list[Piece]:
        """Return the steps of a round beside compactions."""
        pieces = []
        if Task.EXPIRE in tasks:
            pieces.append(Piece(Step(Task.EXPIRE, "old snapshots"), self._forget))
            pieces.append(Piece(Step(Task.EXPIRE, "files of forgotten snapshots"), self._sweep))
        if Task.REMOVE_ORPHANS in tasks:
            step = Step(Task.REMOVE_ORPHANS, "files of no snapshot")
            pieces.append(Piece(step, self._remove_orphans))
        return pieces

    def compaction(self, job: Job) -> Piece:
        def work(step: Step, courtesy: Courtesy) -> Step:
            try:
                done = self._maintenance.compact(job, Pace(courtesy.between_pieces))
            finally:
                give_back()
            if not done.snapshot_id:
                return replace(step, outcome=Outcome.SUPERSEDED)
            return replace(step, files_after=done.files, size_bytes_after=done.size_bytes)

        return Piece(compaction_step(job), work, job)

    def _forget(self, step: Step, courtesy: Courtesy) -> Step:  # noqa: ARG002 - one short commit
        return replace(step, snapshots=self._maintenance.forget())

    def _sweep(self, step: Step, courtesy: Courtesy) -> Step:
        swept = step
        for note in self._maintenance.sweep():
            swept = replace(swept, files=swept.files + note.files)
            courtesy.between_pieces(0)
        return swept

    def _remove_orphans(self, step: Step, courtesy: Courtesy) -> Step:
        removed = step
        for file in self._maintenance.remove(self._maintenance.orphans().files):
            removed = replace(
                removed, files=removed.files + 1, size_bytes=removed.size_bytes + file.size_bytes
            )
            courtesy.between_pieces(0)
        return removed


def attempted(piece: Piece, courtesy: Courtesy) -> Step:
    """Do a step; what goes wrong is its outcome."""
    try:
        done = piece.work(piece.step, courtesy)
    except ConflictError:
        return replace(piece.step, outcome=Outcome.YIELDED, reason="others committed all the time")
    except (YieldedError, UnavailableError) as error:
        return replace(piece.step, outcome=Outcome.YIELDED, reason=error.message)
    except TROUBLE as error:
        return replace(piece.step, outcome=Outcome.FAILED, reason=str(error))
    untold = done.outcome is Outcome.PLANNED
    return replace(done, outcome=Outcome.DONE) if untold else done
