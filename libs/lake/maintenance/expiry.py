"""Expiry: snapshots leave the metadata early, their files go when no query can hold them.

Nothing is deleted that a kept snapshot refers to, whatever a note says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID

from libs.lake.commits.committer import Points, no_points
from libs.lake.commits.snapshot import forgetting
from libs.lake.ledger.store import ledger_folder
from libs.lake.maintenance.forgotten import Note, leave_note, note_of, notes, read_note
from libs.lake.maintenance.reach import Reach, Reached, kept_snapshots
from libs.lake.maintenance.retention import Retention
from libs.lake.table.catalog import TableStore
from libs.lake.table.storage import Storage
from libs.market.clock import Clock, SystemClock
from libs.market.errors import CorruptError, UnavailableError

# A commit that lands so long after its note is no commit that anybody still waits for.
LONGEST_ASLEEP_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Swept:
    """One note that was due: how many files went with it."""

    snapshots: int
    files: int


class Expirer:
    """Expires one table's snapshots. Blocking: call it in an executor.

    The grace of a note's files begins when this has seen its snapshots gone: a note is left before
    its commit, which may land much later, and until then queries begin with those snapshots. What
    another process saw gone is seen anew, unless its note is a day older than its grace.

    `points` is told of maintenance.mid_expiry, with some files of a note deleted and others not.
    """

    def __init__(
        self,
        store: TableStore,
        table: str,
        *,
        retention: Retention,
        file_grace_s: float,
        clock: Clock | None = None,
        points: Points = no_points,
    ) -> None:
        self._store = store
        self._table = table
        self._retention = retention
        self._file_grace_us = int(file_grace_s * 1e6)
        self._clock = clock or SystemClock()
        self._points = points
        self._reach: Reach | None = None
        self._gone_at_us: dict[str, int] = {}

    def forget(self) -> int:
        """Forget what the retention lets go, where no commit has; return how many snapshots.

        Raises:
            ConflictError, UnavailableError: another try may do better.
            OSError: the note cannot be written.
        """
        table = self._store.load_table(self._table)
        ids = self._retention.expirable(table.metadata)
        if not ids:
            return 0
        folder = ledger_folder(self._store.warehouse, table.metadata)
        leave_note(table.io, folder, note_of(table.metadata, ids, now_us=self._clock.now_us()))
        head = table.metadata.current_snapshot_id
        requirements = (
            AssertTableUUID(uuid=table.metadata.table_uuid),
            AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": head}),
        )
        self._store.commit_table(table, requirements, tuple(forgetting(ids)))
        return len(ids)

    def waiting(self) -> tuple[int, int]:
        """Return how many notes there are, and how many of them are due.

        Raises: OSError, UnavailableError.
        """
        table = self._store.load_table(self._table)
        left = notes(Storage(table.io), ledger_folder(self._store.warehouse, table.metadata))
        return len(left), sum(self._is_due(*one) for one in left)

    def sweep(self) -> Iterator[Swept]:
        """Delete the files of each note that is due, the oldest first; a step for each.

        Raises:
            CorruptError: a kept snapshot's list is gone; nothing more is deleted.
            UnavailableError, OSError: the store or the catalog does not answer.
        """
        table = self._store.load_table(self._table)
        left = notes(Storage(table.io), ledger_folder(self._store.warehouse, table.metadata))
        self._look(table, [location for _, location in left])
        for at_us, location in left:
            if self._is_due(at_us, location):
                yield self._sweep_note(location)

    def _look(self, table: Table, locations: Sequence[str]) -> None:
        """Note of which notes the snapshots are gone by now."""
        kept = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
        now_us = self._clock.now_us()
        for location in locations:
            if location not in self._gone_at_us:
                note = read_note(table.io, location)
                if note and not {gone.snapshot_id for gone in note.snapshots} & kept:
                    self._gone_at_us[location] = now_us
        self._gone_at_us = {at: us for at, us in self._gone_at_us.items() if at in locations}

    def _is_due(self, at_us: int, location: str) -> bool:
        latest_us = at_us + LONGEST_ASLEEP_US
        return min(self._gone_at_us.get(location, latest_us), latest_us) <= self._due_us()

    def _due_us(self) -> int:
        return self._clock.now_us() - self._file_grace_us

    def _sweep_note(self, location: str) -> Swept:
        table = self._store.load_table(self._table)
        storage, note = Storage(table.io), read_note(table.io, location)
        if note is None:
            storage.delete(location)
            return Swept(0, 0)
        self._reach = self._reach or Reach(table.io)
        doomed = unreachable(table, note, self._reach)
        deleted = 0
        for at, file in enumerate(doomed):
            if at == len(doomed) // 2:
                self._points("maintenance.mid_expiry")
            deleted += storage.delete(file)
        storage.delete(location)
        return Swept(len(note.snapshots), deleted)


def unreachable(table: Table, note: Note, reach: Reach) -> list[str]:
    """Return the files of a note that nothing refers to any more, in the order to delete them.

    Raises:
        CorruptError: a list of a kept snapshot is gone, so nobody knows what it refers to.
    """
    kept = reached_by_kept(table, reach)
    gone = reach.of(note.snapshots, lenient=True) - kept
    current = {entry.metadata_file for entry in table.metadata.metadata_log}
    old = set(note.metadata_files) - current - {table.metadata_location}
    reach.keep_only(kept)
    return [*gone.deepest_first(), *sorted(old)]


def reached_by_kept(table: Table, reach: Reach) -> Reached:
    """Raises: CorruptError, UnavailableError."""
    try:
        return reach.of(kept_snapshots(table))
    except FileNotFoundError as error:
        raise CorruptError(
            f"a manifest of a kept snapshot is gone ({error}): no file is deleted until the table"
            " is repaired or that snapshot expired"
        ) from error
    except OSError as error:
        raise UnavailableError(f"the table's manifests cannot be read: {error}") from error
