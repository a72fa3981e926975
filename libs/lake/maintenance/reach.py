"""What the snapshots of a table refer to: every file that must stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile, read_manifest_list
from pyiceberg.table import Table

from libs.lake.maintenance.forgotten import Gone, note_of


@dataclass(slots=True)
class Reached:
    """Locations, in the order in which a reader comes to them."""

    lists: set[str] = field(default_factory=set)
    manifests: set[str] = field(default_factory=set)
    data_files: set[str] = field(default_factory=set)
    ledgers: set[str] = field(default_factory=set)

    def __sub__(self, other: Reached) -> Reached:
        return Reached(
            self.lists - other.lists,
            self.manifests - other.manifests,
            self.data_files - other.data_files,
            self.ledgers - other.ledgers,
        )

    def deepest_first(self) -> Iterator[str]:
        """Yield the files so that whoever is stopped on the way finds the rest again."""
        for locations in (self.data_files, self.manifests, self.ledgers, self.lists):
            yield from sorted(locations)


class Reach:
    """Follows snapshots to their files; lists and manifests never change, so each is read once."""

    def __init__(self, io: FileIO) -> None:
        self._io = io
        self._manifests: dict[str, tuple[ManifestFile, ...]] = {}
        self._files: dict[str, tuple[str, ...]] = {}

    def of(self, snapshots: Iterable[Gone], *, lenient: bool = False) -> Reached:
        """Return what these snapshots refer to.

        Raises:
            FileNotFoundError: a list is gone, and not `lenient`: what it referred to is not known.
            OSError: the store does not answer.
        """
        found = Reached()
        for snapshot in snapshots:
            found.lists.add(snapshot.manifest_list)
            found.ledgers |= {snapshot.ledger} - {""}
            for manifest in self._listed(snapshot.manifest_list, lenient=lenient):
                if manifest.manifest_path not in found.manifests:
                    found.manifests.add(manifest.manifest_path)
                    found.data_files.update(self._held(manifest, lenient=lenient))
        return found

    def keep_only(self, reached: Reached) -> None:
        """Forget what was read of other snapshots."""
        self._manifests = {k: v for k, v in self._manifests.items() if k in reached.lists}
        self._files = {k: v for k, v in self._files.items() if k in reached.manifests}

    def _listed(self, location: str, *, lenient: bool) -> tuple[ManifestFile, ...]:
        if location not in self._manifests:
            try:
                found = tuple(read_manifest_list(self._io.new_input(location)))
            except FileNotFoundError:
                if lenient:
                    return ()
                raise
            self._manifests[location] = found
        return self._manifests[location]

    def _held(self, manifest: ManifestFile, *, lenient: bool) -> tuple[str, ...]:
        path = manifest.manifest_path
        if path not in self._files:
            try:
                entries = manifest.fetch_manifest_entry(self._io)
            except FileNotFoundError:
                if lenient:
                    return ()
                raise
            self._files[path] = tuple(entry.data_file.file_path for entry in entries)
        return self._files[path]


def kept_snapshots(table: Table) -> tuple[Gone, ...]:
    metadata = table.metadata
    every = {snapshot.snapshot_id for snapshot in metadata.snapshots}
    return note_of(metadata, every, now_us=0).snapshots
