"""A table's maintenance in one place: compaction, expiry, orphans. Blocking.

One thread does the work; others may look meanwhile (`plan`, `waiting`, `orphans`).

Each step is bounded and stands alone: a process may be killed in any of them, and whoever comes
next finds a sound table and, at worst, orphans.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from libs.lake.commits.committer import Points, no_points
from libs.lake.commits.patience import Patience
from libs.lake.commits.turn import Turn
from libs.lake.files.index import SnapshotIndex
from libs.lake.maintenance.compaction import CompactionPolicy, Job, Partition, plan_compaction
from libs.lake.maintenance.expiry import Expirer, Swept
from libs.lake.maintenance.orphans import DAY_S, OrphanRemover, Orphans
from libs.lake.maintenance.retention import Retention
from libs.lake.maintenance.rewrite import Superseded
from libs.lake.maintenance.rewriter import Rewriter
from libs.lake.maintenance.rewriting import Pace, rewrite_files
from libs.lake.maintenance.stillness import Stillness
from libs.lake.table.catalog import TableStore
from libs.lake.table.storage import StoredFile
from libs.market.clock import Clock, SystemClock

HOUR_S = 3_600.0
# A process that stops waits no longer; a new plan does as well as another try.
PATIENCE = Patience(give_up_after_s=5.0)


@dataclass(frozen=True, slots=True)
class MaintenanceOptions:
    """How the table is kept; times in seconds."""

    compaction: CompactionPolicy = field(default_factory=CompactionPolicy)
    retention: Retention = field(default_factory=Retention)
    # Longer than any query may take: until then its files stay.
    file_grace_s: float = 2 * HOUR_S
    orphan_age_s: float = DAY_S


@dataclass(frozen=True, slots=True)
class Compacted:
    """What became of a job; no snapshot where others had changed its files first."""

    job: Job
    snapshot_id: int
    files: int
    size_bytes: int


class Maintenance:
    """Keeps one table.

    `points` is told where it stands: maintenance.after_upload, .before_send, .after_commit,
    .mid_expiry. `turn` is held while something is sent to the catalog.
    """

    def __init__(
        self,
        store: TableStore,
        table: str,
        options: MaintenanceOptions,
        *,
        clock: Clock | None = None,
        points: Points = no_points,
        turn: Turn | None = None,
    ) -> None:
        self.options = options
        self._store = store
        self._table = table
        self._clock = clock or SystemClock()
        self._points = points
        self._lock = threading.Lock()
        self._stillness = Stillness()
        self._index: SnapshotIndex | None = None
        self._rewriter = Rewriter(
            store,
            table,
            clock=self._clock,
            points=points,
            patience=PATIENCE,
            longest_s=options.orphan_age_s / 2,
            turn=turn,
        )
        self._expirer = Expirer(
            store,
            table,
            retention=options.retention,
            file_grace_s=options.file_grace_s,
            clock=self._clock,
            points=points,
        )
        self._orphans = OrphanRemover(store, table, age_s=options.orphan_age_s, clock=self._clock)

    def plan(self, owns: Callable[[Partition], bool], *, asked: bool = False) -> list[Job]:
        """Return the compactions that are due in partitions of our own.

        Raises:
            MissingSeamError: another tool wrote to the table: nothing is changed any more.
            UnavailableError, OSError: the store or the catalog does not answer.
        """
        table = self._store.load_table(self._table)
        with self._lock:
            self._index = SnapshotIndex.build(table, self._index)
            self._stillness.look(self._index.files, self._clock.monotonic_s())
            jobs = plan_compaction(
                self._index.files,
                self.options.compaction,
                now_us=self._clock.now_us(),
                unchanged_s=self._stillness.unchanged_s,
                asked=asked,
            )
        return [job for job in jobs if owns(job.partition)]

    def compact(self, job: Job, pace: Pace) -> Compacted:
        """Do one job, proven before it is committed.

        Raises:
            ContentChangedError, CorruptError: nothing was changed.
            UnavailableError, ConflictError, OSError: try it again, from a new plan.
        """
        table = self._store.load_table(self._table)
        rewrite = rewrite_files(
            table,
            job,
            target_bytes=self.options.compaction.target_bytes,
            pace=pace,
            now_us=self._clock.now_us,
        )
        self._points("maintenance.after_upload")
        outcome = self._rewriter.commit(rewrite)
        if isinstance(outcome, Superseded):
            return Compacted(job, 0, 0, 0)
        size_bytes = sum(file.file_size_in_bytes for file in rewrite.added)
        return Compacted(job, outcome.snapshot_id, len(rewrite.added), size_bytes)

    def forget(self) -> int:
        return self._expirer.forget()

    def sweep(self) -> Iterator[Swept]:
        return self._expirer.sweep()

    def expirable(self) -> int:
        """Return how many snapshots `forget` would forget now."""
        return len(self.options.retention.expirable(self._store.load_table(self._table).metadata))

    def waiting(self) -> tuple[int, int]:
        """Return how many notes of forgotten snapshots there are, and how many are due."""
        return self._expirer.waiting()

    def orphans(self) -> Orphans:
        return self._orphans.find()

    def remove(self, files: Sequence[StoredFile]) -> Iterator[StoredFile]:
        return self._orphans.delete(files)
