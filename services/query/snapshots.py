"""The table's snapshots, newest first, and which one a time means."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from libs.lake.commits.seam import (
    COMMIT_ID_KEY,
    KIND_KEY,
    MissingSeamError,
    Seam,
    seam_at,
    summary_text,
)
from libs.lake.files.index import SnapshotIndex
from libs.market.errors import NotFoundError
from services.query.state import State


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot as callers see it; an empty seam where another tool wrote it."""

    snapshot_id: int
    parent_id: int
    sequence_number: int
    commit_time_us: int
    kind: str
    commit_id: str
    added_rows: int
    total_rows: int
    total_files: int
    seam: Seam


def newest_first(table: Table | None) -> list[Snapshot]:
    kept = table.metadata.snapshots if table is not None else []
    return sorted(kept, key=lambda snapshot: snapshot.sequence_number or 0, reverse=True)


def named(table: Table | None, snapshot_id: int) -> Snapshot:
    """Return a retained snapshot.

    Raises:
        NotFoundError: it never was, or is expired.
    """
    snapshot = table.metadata.snapshot_by_id(snapshot_id) if table is not None else None
    if snapshot is None:
        raise NotFoundError(
            f"there is no snapshot {snapshot_id}: it is expired, or never was; `k2 snapshots`"
            " and ListSnapshots name those that are kept",
            snapshot_id=snapshot_id,
        )
    return snapshot


def info(table: Table, snapshot: Snapshot) -> SnapshotInfo:
    return SnapshotInfo(
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id or 0,
        sequence_number=snapshot.sequence_number or 0,
        commit_time_us=snapshot.timestamp_ms * 1_000,
        kind=summary_text(snapshot, KIND_KEY),
        commit_id=summary_text(snapshot, COMMIT_ID_KEY),
        added_rows=count(snapshot, "added-records"),
        total_rows=count(snapshot, "total-records"),
        total_files=count(snapshot, "total-data-files"),
        seam=seam_or_none(table, snapshot),
    )


def seam_or_none(table: Table, snapshot: Snapshot) -> Seam:
    try:
        return seam_at(table.metadata, snapshot)
    except MissingSeamError:
        return {}


def count(snapshot: Snapshot, key: str) -> int:
    return int(summary_text(snapshot, key) or 0)


def index_at(current: State, snapshot_id: int) -> SnapshotIndex:
    try:
        return SnapshotIndex.build(table_of(current), current.index, snapshot_id=snapshot_id)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"snapshot {snapshot_id} is expired and its files are gone", snapshot_id=snapshot_id
        ) from error


def table_of(state: State) -> Table:
    if state.table is None:
        raise NotFoundError("nothing is committed yet")
    return state.table
