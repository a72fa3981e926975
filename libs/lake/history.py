"""The table's snapshots as people ask for them."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from libs.lake.seam import (
    COMMIT_ID_KEY,
    KIND_KEY,
    LOST_KEY,
    MissingSeamError,
    Ranges,
    Seam,
    decode_ranges,
    seam_at,
    summary_text,
)
from libs.market.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One kept snapshot. `seam` is None, and `commit_id` empty, where another tool wrote it."""

    snapshot_id: int
    parent_snapshot_id: int | None
    commit_time_us: int
    kind: str
    commit_id: str
    added_rows: int
    total_rows: int
    total_files: int
    seam: Seam | None
    lost: Ranges


def list_snapshots(metadata: TableMetadata) -> list[SnapshotInfo]:
    """Return the snapshots that are or were the head and are still kept, newest first."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    once_head = {entry.snapshot_id: None for entry in reversed(metadata.snapshot_log)}
    kept = [by_id[snapshot_id] for snapshot_id in once_head if snapshot_id in by_id]
    return [info_of(metadata, snapshot) for snapshot in kept]


def find_snapshot(metadata: TableMetadata, snapshot_id: int) -> SnapshotInfo:
    snapshot = metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise NotFoundError(f"snapshot {snapshot_id} is not in the table", snapshot_id=snapshot_id)
    return info_of(metadata, snapshot)


def snapshot_at_time(metadata: TableMetadata, time_us: int) -> SnapshotInfo:
    """Return what was the head at a time.

    Raises:
        NotFoundError: nothing was committed by then, or it is expired.
    """
    entries = [entry for entry in metadata.snapshot_log if entry.timestamp_ms * 1000 <= time_us]
    if not entries:
        raise NotFoundError("no snapshot is kept from that time or before", time_us=time_us)
    return find_snapshot(metadata, entries[-1].snapshot_id)


def info_of(metadata: TableMetadata, snapshot: Snapshot) -> SnapshotInfo:
    operation = snapshot.summary.operation.value if snapshot.summary else ""
    return SnapshotInfo(
        snapshot_id=snapshot.snapshot_id,
        parent_snapshot_id=snapshot.parent_snapshot_id,
        commit_time_us=snapshot.timestamp_ms * 1000,
        kind=summary_text(snapshot, KIND_KEY) or operation,
        commit_id=summary_text(snapshot, COMMIT_ID_KEY),
        added_rows=int(summary_text(snapshot, "added-records") or 0),
        total_rows=int(summary_text(snapshot, "total-records") or 0),
        total_files=int(summary_text(snapshot, "total-data-files") or 0),
        seam=seam_or_none(metadata, snapshot),
        lost=decode_ranges(summary_text(snapshot, LOST_KEY) or "{}"),
    )


def seam_or_none(metadata: TableMetadata, snapshot: Snapshot) -> Seam | None:
    try:
        return seam_at(metadata, snapshot)
    except MissingSeamError:
        return None
