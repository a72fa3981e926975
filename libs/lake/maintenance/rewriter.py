"""Sends rewrites to the catalog: a `replace` of our own, tried until it landed or is superseded.

As with any commit, an attempt that is not known to have failed deletes nothing: the next look at
the table tells, by the commit-id or by the new files themselves.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyiceberg.manifest import DataFile, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from libs.lake.commits.committer import Points, no_points
from libs.lake.commits.manifests import live_manifests, merge_small, open_manifest
from libs.lake.commits.patience import LONGEST_ON_THE_WAY_S, Patience
from libs.lake.commits.snapshot import Staged, swap, write_listing
from libs.lake.commits.turn import Turn
from libs.lake.files.index import SnapshotIndex, openable
from libs.lake.maintenance.rewrite import (
    Rewrite,
    RewriteLanded,
    RewritePlan,
    Superseded,
    plan_rewrite,
)
from libs.lake.table.catalog import TableStore
from libs.lake.table.durable import make_durable
from libs.market.clock import Clock, SystemClock

# Appends come first: longer than they take, when the catalog answers at all.
LONGEST_WAIT_FOR_TURN_S = 5.0


@dataclass(frozen=True, slots=True)
class Replaced:
    """The rewrite is in the table."""

    snapshot_id: int
    attempts: int


class Rewriter:
    """Commits rewrites to one table. Blocking: call it in an executor.

    `points` is told where the commit stands: maintenance.before_send, maintenance.after_commit.
    """

    def __init__(
        self,
        store: TableStore,
        table: str,
        *,
        clock: Clock | None = None,
        points: Points = no_points,
        patience: Patience | None = None,
        longest_s: float = LONGEST_ON_THE_WAY_S,
        turn: Turn | None = None,
    ) -> None:
        self._store = store
        self._table = table
        self._clock = clock or SystemClock()
        self._points = points
        self._patience = patience or Patience()
        self._longest_us = int(longest_s * 1e6)
        self._turn = turn or Turn()
        self._index: SnapshotIndex | None = None

    def commit(self, rewrite: Rewrite) -> Replaced | Superseded:
        """Put the new files in the place of the old ones, or say which of these are gone.

        Raises:
            UnavailableError: the outcome is not known; call again with the same Rewrite.
            ConflictError: others were faster each time; the same.
            MissingSeamError: another tool wrote to the table; change nothing more.
        """
        return self._patience.until_landed(
            lambda number: self._in_turn(rewrite, number), self._clock
        )

    def _in_turn(self, rewrite: Rewrite, number: int) -> Replaced | Superseded:
        with self._turn.taken(wait_s=LONGEST_WAIT_FOR_TURN_S):
            return self._attempt(rewrite, number)

    def _attempt(self, rewrite: Rewrite, number: int) -> Replaced | Superseded:
        table = self._store.load_table(self._table)
        self._index = SnapshotIndex.build(table, self._index)
        live = {file.path: file.size_bytes for file in self._index.files}
        now_us = self._clock.now_us()
        plan = plan_rewrite(
            table.metadata,
            live,
            rewrite,
            now_ms=now_us // 1000,
            oldest_us=now_us - self._longest_us,
        )
        if isinstance(plan, Superseded):
            return plan
        if isinstance(plan, RewriteLanded):
            return Replaced(plan.snapshot_id, number)
        staged = stage_rewrite(table, plan, self._index)
        self._points("maintenance.before_send")
        self._store.commit_table(table, staged.requirements, staged.updates)
        self._points("maintenance.after_commit")
        return Replaced(staged.snapshot_id, number)


def stage_rewrite(table: Table, plan: RewritePlan, index: SnapshotIndex) -> Staged:
    """Write the attempt's manifests and manifest list under names of its own."""
    snapshot_id = table.metadata.new_snapshot_id()
    attempt_id = str(uuid.uuid4())
    before = live_manifests(table)
    touched = [manifest for manifest in before if holds(index, manifest, plan.rewrite.removed)]
    written = write_changes(table, plan.rewrite, touched, snapshot_id, attempt_id)
    gone = {manifest.manifest_path for manifest in touched}
    rest = [manifest for manifest in before if manifest.manifest_path not in gone]
    merged = merge_small(table, rest, snapshot_id, attempt_id)
    manifests = [*written, *merged]
    listing = write_listing(table, plan, manifests, snapshot_id, attempt_id)
    known = {manifest.manifest_path for manifest in before}
    make_durable([*({m.manifest_path for m in manifests} - known), listing])
    return swap(table, plan, snapshot_id, listing, (), Operation.REPLACE)


def holds(index: SnapshotIndex, manifest: ManifestFile, paths: frozenset[str]) -> bool:
    return any(file.path in paths for file in index.manifests.get(manifest.manifest_path, ()))


@dataclass(slots=True)
class Changes:
    """What becomes of the files of one partition spec."""

    added: list[DataFile] = field(default_factory=list)
    kept: list[ManifestEntry] = field(default_factory=list)
    removed: list[ManifestEntry] = field(default_factory=list)


def changes_of(
    table: Table, rewrite: Rewrite, touched: Sequence[ManifestFile]
) -> dict[int, Changes]:
    """Sort the files of the touched manifests, and the new ones, by partition spec."""
    changes: defaultdict[int, Changes] = defaultdict(Changes)
    for file in rewrite.added:
        changes[file.spec_id].added.append(file)
    for manifest in touched:
        of_spec = changes[manifest.partition_spec_id]
        for entry in manifest.fetch_manifest_entry(table.io):
            gone = openable(entry.data_file.file_path) in rewrite.removed
            (of_spec.removed if gone else of_spec.kept).append(entry)
    return changes


def write_changes(
    table: Table,
    rewrite: Rewrite,
    touched: Sequence[ManifestFile],
    snapshot_id: int,
    attempt_id: str,
) -> list[ManifestFile]:
    """Write what is live now, and apart from it what was removed: that goes with the next commit.

    Files keep the snapshot and sequence number that brought them. The new ones have the sequence
    number of the state that was read.
    """
    written = []
    for spec_id, changes in changes_of(table, rewrite, touched).items():
        name = f"{attempt_id}-m{spec_id}"
        if changes.added or changes.kept:
            with open_manifest(table, spec_id, snapshot_id, f"{name}.avro") as live:
                for file in changes.added:
                    live.add_entry(added_entry(file, snapshot_id, rewrite.sequence_number))
                for entry in changes.kept:
                    live.existing(entry)
            written.append(live.to_manifest_file())
        if changes.removed:
            with open_manifest(table, spec_id, snapshot_id, f"{name}-removed.avro") as removed:
                for entry in changes.removed:
                    removed.delete(entry)
            written.append(removed.to_manifest_file())
    return written


def added_entry(file: DataFile, snapshot_id: int, sequence_number: int) -> ManifestEntry:
    return ManifestEntry.from_args(
        status=ManifestEntryStatus.ADDED,
        snapshot_id=snapshot_id,
        sequence_number=sequence_number,
        data_file=file,
    )
