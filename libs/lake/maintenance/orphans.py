"""Orphans: files that no snapshot refers to, left by attempts that did not land.

A file may be on its way into a commit, so only old ones count; and a commit refuses files that
were written longer ago than half that age, so that none becomes live while it is deleted. Only
files of the names that K2 and Iceberg give are looked at, in the table's own folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pyiceberg.table import Table

from libs.lake.ledger.store import files_of, ledger_folder, read
from libs.lake.maintenance.expiry import reached_by_kept
from libs.lake.maintenance.forgotten import notes, read_note
from libs.lake.maintenance.reach import Reach, kept_snapshots
from libs.lake.table.catalog import TableStore
from libs.lake.table.storage import Storage, StoredFile
from libs.market.clock import Clock, SystemClock
from libs.market.errors import InvalidError

DAY_S = 86_400.0
# A commit takes files up to half this age; below an hour that would refuse honest ones.
LOWEST_AGE_S = 3_600.0

DATA = ("*.parquet",)
METADATA = ("*.avro", "*.metadata.json")
LEDGERS = ("ledger-*.json", "lines-*.json")


@dataclass(frozen=True, slots=True)
class Orphans:
    """What was found, oldest first."""

    files: tuple[StoredFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class OrphanRemover:
    """Finds and deletes one table's orphans. Blocking: call it in an executor."""

    def __init__(
        self,
        store: TableStore,
        table: str,
        *,
        age_s: float = DAY_S,
        clock: Clock | None = None,
    ) -> None:
        if age_s < LOWEST_AGE_S:
            raise InvalidError(f"orphans must be at least {LOWEST_AGE_S:g} s old", field="age_s")
        self._store = store
        self._table = table
        self._age_us = int(age_s * 1e6)
        self._clock = clock or SystemClock()

    def find(self) -> Orphans:
        """Return what could be deleted now.

        Raises:
            CorruptError: a list of a kept snapshot is gone; nobody knows what it refers to.
            UnavailableError, OSError: the store or the catalog does not answer.
        """
        # Listed before the head is read: what is committed meanwhile is in the head, not an orphan.
        table = self._store.load_table(self._table)
        folder = ledger_folder(self._store.warehouse, table.metadata)
        before_us = self._clock.now_us() - self._age_us
        listed = [file for file in candidates(table, folder) if file.modified_us < before_us]
        if not listed:
            return Orphans(())
        table = self._store.load_table(self._table)
        storage = Storage(table.io)
        used = {storage.path_of(location) for location in referred_to(table, folder)}
        left = (file for file in listed if storage.path_of(file.location) not in used)
        return Orphans(tuple(sorted(left, key=lambda file: file.modified_us)))

    def delete(self, files: Iterable[StoredFile]) -> Iterator[StoredFile]:
        """Delete what `find` returned, yielding each file that is gone by it.

        Raises: UnavailableError, OSError.
        """
        storage = Storage(self._store.load_table(self._table).io)
        for file in files:
            if storage.delete(file.location):
                yield file


def candidates(table: Table, folder: str) -> Iterator[StoredFile]:
    """Yield the files of K2's and Iceberg's names in the table's own folders."""
    storage, location = Storage(table.io), table.location().rstrip("/")
    for under, names in ((f"{location}/data", DATA), (f"{location}/metadata", METADATA)):
        yield from named(storage.files_under(under), names)
    yield from named(storage.files_under(folder), LEDGERS)


def named(files: Iterable[StoredFile], patterns: Iterable[str]) -> Iterator[StoredFile]:
    wanted = tuple(patterns)
    for file in files:
        name = file.location.rpartition("/")[2]
        if any(fnmatchcase(name, pattern) for pattern in wanted):
            yield file


def referred_to(table: Table, folder: str) -> set[str]:
    """Return every file that must stay: the kept snapshots', and those that wait for their time."""
    reach = Reach(table.io)
    kept = reached_by_kept(table, reach)
    found = {*kept.deepest_first(), table.metadata_location}
    found |= {entry.metadata_file for entry in table.metadata.metadata_log}
    for location in {snapshot.ledger for snapshot in kept_snapshots(table)} - {""}:
        found |= files_of(read(table.io, location), location)
    for _, location in notes(Storage(table.io), folder):
        if note := read_note(table.io, location):
            found.update(reach.of(note.snapshots, lenient=True).deepest_first())
            found.update(note.metadata_files)
    return found
