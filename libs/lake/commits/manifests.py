"""Manifests: the lists of data files that a snapshot is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    write_manifest,
)
from pyiceberg.table import Table

from libs.lake.commits.commit import LakeFile

AVRO_COMPRESSION: Literal["deflate"] = "deflate"
# Every commit lists all manifests again, 0.1 ms each (measured): past 100 small ones become one.
MERGE_AT = 100
SMALL_FILES = 4_000


def live_manifests(table: Table) -> list[ManifestFile]:
    """Return the head's manifests, but for those whose files a rewrite has all removed."""
    head = table.metadata.current_snapshot()
    manifests = head.manifests(table.io) if head is not None else []
    return [manifest for manifest in manifests if lists_live_files(manifest)]


def lists_live_files(manifest: ManifestFile) -> bool:
    counted = (manifest.added_files_count, manifest.existing_files_count)
    return None in counted or any(counted)


def write_added(
    table: Table, files: Iterable[LakeFile], snapshot_id: int, attempt_id: str
) -> list[ManifestFile]:
    """Write the manifests of a commit's own files: one for each partition spec they were made for.

    That is one, but where the table's spec changed after they were written.
    """
    by_spec: dict[int, list[DataFile]] = {}
    for file in files:
        by_spec.setdefault(file.data_file.spec_id, []).append(file.data_file)
    return [
        write_spec(table, spec_id, data_files, snapshot_id, f"{attempt_id}-m{spec_id}.avro")
        for spec_id, data_files in by_spec.items()
    ]


def write_spec(
    table: Table, spec_id: int, data_files: Iterable[DataFile], snapshot_id: int, name: str
) -> ManifestFile:
    with open_manifest(table, spec_id, snapshot_id, name) as manifest:
        for data_file in data_files:
            manifest.add_entry(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=data_file
                )
            )
    return manifest.to_manifest_file()


def merge_small(
    table: Table, manifests: Sequence[ManifestFile], snapshot_id: int, attempt_id: str
) -> list[ManifestFile]:
    """Return the manifests, small ones rewritten as one where they have become many.

    The same files, each with the snapshot and sequence number that brought it.
    """
    spec_id = table.metadata.default_spec_id
    small = [manifest for manifest in manifests if is_small(table, manifest)]
    if len(small) < MERGE_AT:
        return list(manifests)
    with open_manifest(table, spec_id, snapshot_id, f"{attempt_id}-merged.avro") as merged:
        for manifest in small:
            for entry in manifest.fetch_manifest_entry(table.io):
                merged.existing(entry)
    paths = {manifest.manifest_path for manifest in small}
    rest = [manifest for manifest in manifests if manifest.manifest_path not in paths]
    return [merged.to_manifest_file(), *rest]


def is_small(table: Table, manifest: ManifestFile) -> bool:
    files = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
    ours = manifest.partition_spec_id == table.metadata.default_spec_id
    return ours and manifest.content is ManifestContent.DATA and 0 < files < SMALL_FILES


def open_manifest(table: Table, spec_id: int, snapshot_id: int, name: str) -> ManifestWriter:
    metadata = table.metadata
    location = table.location_provider().new_metadata_location(name)
    return write_manifest(
        format_version=metadata.format_version,
        spec=metadata.specs()[spec_id],
        schema=metadata.schema(),
        output_file=table.io.new_output(location),
        snapshot_id=snapshot_id,
        avro_compression=AVRO_COMPRESSION,
    )
