"""From a plan to what the catalog is sent: manifest, manifest list, and one compare-and-swap."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pyiceberg.manifest import ManifestFile, write_manifest_list
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from libs.lake.commits.commit import CommitPlan
from libs.lake.commits.manifests import AVRO_COMPRESSION, live_manifests, merge_small, write_added
from libs.lake.commits.seam import SEAM_TAG
from libs.lake.table.durable import make_durable


class Plan(Protocol):
    """What every plan of a commit says of its snapshot."""

    @property
    def parent_id(self) -> int | None: ...
    @property
    def sequence_number(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def summary(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Staged:
    """A commit whose files are written, ready to be sent."""

    snapshot_id: int
    requirements: tuple[TableRequirement, ...]
    updates: tuple[TableUpdate, ...]


def stage(table: Table, plan: CommitPlan, *, forget: Sequence[int] = ()) -> Staged:
    """Write the attempt's manifests and manifest list under names of its own.

    The snapshots in `forget` leave the metadata with the same compare-and-swap.
    """
    snapshot_id = table.metadata.new_snapshot_id()
    attempt_id = str(uuid.uuid4())
    before = live_manifests(table)
    manifests = merge_small(table, before, snapshot_id, attempt_id)
    manifests = [*write_added(table, plan.files, snapshot_id, attempt_id), *manifests]
    listing = write_listing(table, plan, manifests, snapshot_id, attempt_id)
    known = {manifest.manifest_path for manifest in before}
    make_durable([*({m.manifest_path for m in manifests} - known), listing])
    return swap(table, plan, snapshot_id, listing, forget)


def write_listing(
    table: Table,
    plan: Plan,
    manifests: Sequence[ManifestFile],
    snapshot_id: int,
    attempt_id: str,
) -> str:
    location = table.location_provider().new_metadata_location(
        f"snap-{snapshot_id}-0-{attempt_id}.avro"
    )
    with write_manifest_list(
        format_version=table.metadata.format_version,
        output_file=table.io.new_output(location),
        snapshot_id=snapshot_id,
        parent_snapshot_id=plan.parent_id,
        sequence_number=plan.sequence_number,
        avro_compression=AVRO_COMPRESSION,
    ) as listing:
        listing.add_manifests(list(manifests))
    return location


def swap(
    table: Table,
    plan: Plan,
    snapshot_id: int,
    listing: str,
    forget: Sequence[int],
    operation: Operation = Operation.APPEND,
) -> Staged:
    """Build the compare-and-swap: valid on this table and this head alone, the first commit too."""
    snapshot = Snapshot.model_validate(
        {
            "snapshot-id": snapshot_id,
            "parent-snapshot-id": plan.parent_id,
            "manifest-list": listing,
            "sequence-number": plan.sequence_number,
            "timestamp-ms": plan.timestamp_ms,
            "summary": Summary(operation, **plan.summary),
            "schema-id": table.metadata.current_schema_id,
        }
    )
    return Staged(
        snapshot_id=snapshot_id,
        requirements=(
            AssertTableUUID(uuid=table.metadata.table_uuid),
            AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": plan.parent_id}),
        ),
        updates=(
            AddSnapshotUpdate(snapshot=snapshot),
            move_ref(table, MAIN_BRANCH, SnapshotRefType.BRANCH, snapshot_id),
            move_ref(table, SEAM_TAG, SnapshotRefType.TAG, snapshot_id),
            *forgetting(forget),
        ),
    )


def forgetting(snapshot_ids: Sequence[int]) -> list[TableUpdate]:
    if not snapshot_ids:
        return []
    return [RemoveSnapshotsUpdate.model_validate({"snapshot-ids": list(snapshot_ids)})]


def move_ref(
    table: Table, name: str, kind: SnapshotRefType, snapshot_id: int
) -> SetSnapshotRefUpdate:
    """Point a ref at the new snapshot, keeping what others have set of its retention."""
    before = table.metadata.refs.get(name)
    return SetSnapshotRefUpdate.model_validate(
        {
            "ref-name": name,
            "type": kind,
            "snapshot-id": snapshot_id,
            "max-ref-age-ms": before.max_ref_age_ms if before else None,
            "max-snapshot-age-ms": before.max_snapshot_age_ms if before else None,
            "min-snapshots-to-keep": before.min_snapshots_to_keep if before else None,
        }
    )
