"""The commit loop: sends plans to the catalog until one has landed or the fence has failed.

1. load the head with its ledger, plan against it; rows that the head holds go back to the writer;
2. write a ledger, a manifest and a manifest list of this attempt's own names;
3. send one compare-and-swap: snapshot, branch main and tag k2-seam move together;
4. on a conflict, or no answer: delete nothing, go to 1, where the plan first looks for the
   commit-id among all ancestors of the new head.

Nothing here ever deletes a file: what an attempt leaves behind is an orphan, for maintenance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pyiceberg.table import Table

from libs.lake.commits.commit import (
    AlreadyLanded,
    CommitPlan,
    Overlap,
    Prepared,
    Refused,
    head_of,
    plan_commit,
)
from libs.lake.commits.patience import LONGEST_ON_THE_WAY_S, Patience
from libs.lake.commits.seam import LEDGER_KEY, Ranges, Seam, TopicPartition
from libs.lake.commits.snapshot import stage
from libs.lake.ledger.ledger import EMPTY_LEDGER, Ledger
from libs.lake.ledger.rebuild import rebuilt_ledger
from libs.lake.ledger.store import ledger_folder, ledger_location, read, write
from libs.lake.maintenance.forgotten import leave_note, note_of
from libs.lake.maintenance.retention import Retention
from libs.lake.table.catalog import Points, TableStore, no_points
from libs.market.clock import Clock, SystemClock

__all__ = ["Committer", "Fenced", "Landed", "Patience", "Points", "no_points"]


@dataclass(frozen=True, slots=True)
class Landed:
    """The commit is in the table, but for the `fenced` partitions: seek those to these offsets."""

    snapshot_id: int
    rows: int
    ranges: Ranges
    seam: Seam
    fenced: Mapping[TopicPartition, int]
    attempts: int
    ledger: Ledger = EMPTY_LEDGER


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing of this commit may be sent any more: drop the buffer, seek to these offsets."""

    offsets: Mapping[TopicPartition, int]


class Committer:
    """Commits prepared buffers to one table. Blocking: call it in an executor.

    `points` is told where the commit stands: writer.before_build, writer.before_send,
    writer.after_commit.
    """

    def __init__(
        self,
        store: TableStore,
        table: str,
        *,
        clock: Clock | None = None,
        points: Points = no_points,
        patience: Patience | None = None,
        retention: Retention | None = None,
        longest_s: float = LONGEST_ON_THE_WAY_S,
    ) -> None:
        self._store = store
        self._table = table
        self._clock = clock or SystemClock()
        self._points = points
        self._patience = patience or Patience()
        self._retention = retention or Retention()
        self._longest_us = int(longest_s * 1e6)
        self._rebuilt: tuple[int, Ledger] | None = None

    def commit(self, prepared: Prepared) -> Landed | Fenced | Overlap:
        """Bring `prepared` into the table, or say which offsets, or trades, the table is at.

        Raises:
            UnavailableError: the outcome is not known; call again with the same Prepared.
            ConflictError: others were faster each time; the same.
            MissingSeamError: another tool wrote to the table; commit nothing more.
            MissingLedgerError: its ledger is gone; commit nothing more.
            ForeignLogError: the table's offsets are of another Kafka cluster.
            OSError: the attempt's files cannot be written.
        """
        return self._patience.until_landed(
            lambda attempt: self._attempt(prepared, attempt), self._clock
        )

    def _attempt(self, prepared: Prepared, attempt: int) -> Landed | Fenced | Overlap:
        self._points("writer.before_build")
        table = self._store.load_table(self._table)
        head = head_of(table.metadata, self.ledger_of(table))
        now_us = self._clock.now_us()
        oldest_us = now_us - self._longest_us
        plan = plan_commit(head, prepared, now_ms=now_us // 1000, oldest_us=oldest_us)
        if isinstance(plan, Overlap):
            return plan
        if isinstance(plan, Refused):
            return Fenced(plan.fenced)
        if isinstance(plan, AlreadyLanded):
            past = plan.past
            return Landed(
                past.snapshot_id,
                past.rows,
                past.ranges,
                past.seam,
                plan.fenced,
                attempt,
                head.ledger,
            )
        return self._send(table, plan, attempt)

    def _send(self, table: Table, plan: CommitPlan, attempt: int) -> Landed:
        folder = ledger_folder(self._store.warehouse, table.metadata)
        forget = self._retention.expirable(table.metadata)
        if forget:
            left = note_of(table.metadata, forget, now_us=self._clock.now_us())
            leave_note(table.io, folder, left)
        summary = {**plan.summary, LEDGER_KEY: write(table.io, folder, plan.ledger)}
        staged = stage(table, replace(plan, summary=summary), forget=forget)
        self._points("writer.before_send")
        self._store.commit_table(table, staged.requirements, staged.updates)
        self._points("writer.after_commit")
        rows = sum(file.rows for file in plan.files)
        return Landed(
            staged.snapshot_id, rows, plan.ranges, plan.seam, plan.fenced, attempt, plan.ledger
        )

    def ledger_of(self, table: Table) -> Ledger:
        """Return the head's ledger; that of a table of an older K2 is made from its rows.

        Raises:
            MissingLedgerError, MissingSeamError, UnavailableError
        """
        location = ledger_location(table.metadata)
        head = table.metadata.current_snapshot()
        if location or head is None:
            return read(table.io, location)
        if self._rebuilt is None or self._rebuilt[0] != head.snapshot_id:
            self._rebuilt = head.snapshot_id, rebuilt_ledger(table)
        return self._rebuilt[1]
