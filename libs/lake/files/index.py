"""A snapshot's data files, indexed in memory: no planning call in a query's path.

Immutable; the next one is built from the one before and reads only manifests not seen yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt
from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from libs.lake.commits.seam import EMPTY_SEAM, Seam, TopicPartition, seam_at, seam_of
from libs.lake.files.statistics import primitive
from libs.lake.ledger.ledger import EMPTY_LEDGER, Ledger
from libs.lake.ledger.store import ledger_location, read
from libs.lake.table.durable import local_path
from libs.lake.table.naming import OwnColumns
from libs.lake.table.tables import trades_columns
from libs.market.bucket import bucket_of
from libs.market.errors import K2Error, NotFoundError

EARLIEST_US = -(1 << 63)
LATEST_US = (1 << 63) - 1


class UnsupportedDeletesError(K2Error):
    """The snapshot has delete files; reading on would answer with deleted rows."""

    reason = "UNSUPPORTED_DELETES"
    code = "FAILED_PRECONDITION"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One live data file and its bounds, all inclusive. `path` is what DuckDB opens."""

    path: str
    day: int
    bucket: int
    rows: int
    size_bytes: int
    symbol_min: str
    symbol_max: str
    time_min_us: int
    time_max_us: int
    topic: str
    partition_min: int
    partition_max: int
    offset_min: int
    offset_max: int
    snapshot_id: int
    # Field ids of the columns that the file has, by what its writer counted; leaves of nested ones.
    held: frozenset[int] = frozenset()
    # Rows without an id of the exchange; all of them where the writer did not count.
    unnumbered_rows: int = 0

    @property
    def position(self) -> TopicPartition | None:
        """The one partition the file's rows came from; None where it mixes several."""
        if self.partition_min != self.partition_max or not self.topic:
            return None
        return TopicPartition(self.topic, self.partition_min)

    def may_hold(self, symbol: str) -> bool:
        return self.symbol_min <= symbol <= self.symbol_max


@dataclass(frozen=True, slots=True)
class Shelf:
    """Files side by side with their time bounds as columns."""

    files: tuple[FileEntry, ...]
    time_min_us: npt.NDArray[np.int64]
    time_max_us: npt.NDArray[np.int64]

    @classmethod
    def of(cls, files: Iterable[FileEntry]) -> Self:
        kept = tuple(files)
        return cls(
            kept,
            np.array([file.time_min_us for file in kept], dtype=np.int64),
            np.array([file.time_max_us for file in kept], dtype=np.int64),
        )

    def within(self, start_us: int, end_us: int) -> list[FileEntry]:
        hits = np.flatnonzero((self.time_min_us < end_us) & (self.time_max_us >= start_us))
        return [self.files[at] for at in hits.tolist()]


EMPTY_SHELF = Shelf.of(())


@dataclass(frozen=True, slots=True)
class SnapshotIndex:
    """The files of one snapshot, and its seam."""

    snapshot_id: int | None
    columns: OwnColumns
    seam: Seam
    manifests: Mapping[str, tuple[FileEntry, ...]]
    everything: Shelf
    by_bucket: Mapping[int, Shelf]
    ledger: Ledger = EMPTY_LEDGER
    # Files with rows that carry no id of the exchange.
    unnumbered: tuple[FileEntry, ...] = ()

    @property
    def files(self) -> tuple[FileEntry, ...]:
        return self.everything.files

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @classmethod
    def build(
        cls, table: Table, previous: SnapshotIndex | None = None, *, snapshot_id: int | None = None
    ) -> SnapshotIndex:
        """Index the table's head, or the snapshot named.

        Raises:
            MissingSeamError: another tool wrote the snapshot.
            MissingLedgerError: its ledger is gone.
            UnsupportedDeletesError: it has delete files.
            NotFoundError: there is no such snapshot (any more).
        """
        snapshot, columns = chosen(table, snapshot_id), trades_columns(table.metadata)
        if snapshot is None:
            return index_of(None, columns, seam_of(table.metadata), {})
        seam = seam_at(table.metadata, snapshot)
        known = previous.manifests if previous else {}
        manifests = {
            manifest.manifest_path: known.get(manifest.manifest_path)
            or read_manifest(manifest, table.io, columns)
            for manifest in data_manifests(snapshot, table.io)
        }
        ledger = read(table.io, ledger_location(table.metadata, snapshot.snapshot_id))
        index = index_of(snapshot.snapshot_id, columns, seam, manifests)
        return replace(index, ledger=ledger)

    def select(
        self,
        symbols: Sequence[str] = (),
        start_us: int | None = None,
        end_us: int | None = None,
    ) -> list[FileEntry]:
        """Return the files that may hold rows of any of these symbols in [start, end)."""
        start = EARLIEST_US if start_us is None else start_us
        end = LATEST_US if end_us is None else end_us
        if not symbols:
            return self.everything.within(start, end)
        wanted: dict[int, list[str]] = {}
        for symbol in symbols:
            wanted.setdefault(bucket_of(symbol), []).append(symbol)
        return [
            file
            for bucket, names in wanted.items()
            for file in self.by_bucket.get(bucket, EMPTY_SHELF).within(start, end)
            if any(file.may_hold(name) for name in names)
        ]


def empty_index(columns: OwnColumns) -> SnapshotIndex:
    return index_of(None, columns, EMPTY_SEAM, {})


def index_of(
    snapshot_id: int | None,
    columns: OwnColumns,
    seam: Seam,
    manifests: Mapping[str, tuple[FileEntry, ...]],
) -> SnapshotIndex:
    files = sorted(
        (file for entries in manifests.values() for file in entries),
        key=lambda file: (file.time_min_us, file.path),
    )
    buckets: dict[int, list[FileEntry]] = {}
    for file in files:
        buckets.setdefault(file.bucket, []).append(file)
    shelves = {bucket: Shelf.of(kept) for bucket, kept in buckets.items()}
    return SnapshotIndex(
        snapshot_id,
        columns,
        seam,
        manifests,
        Shelf.of(files),
        shelves,
        unnumbered=tuple(file for file in files if file.unnumbered_rows),
    )


def chosen(table: Table, snapshot_id: int | None) -> Snapshot | None:
    if snapshot_id is None:
        return table.metadata.current_snapshot()
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise NotFoundError(f"snapshot {snapshot_id} is not in the table", snapshot_id=snapshot_id)
    return snapshot


def data_manifests(snapshot: Snapshot, io: FileIO) -> list[ManifestFile]:
    manifests = snapshot.manifests(io)
    refuse_deletes(manifests, snapshot.snapshot_id)
    return [manifest for manifest in manifests if manifest.content is ManifestContent.DATA]


def refuse_deletes(manifests: Iterable[ManifestFile], snapshot_id: int) -> None:
    for manifest in manifests:
        live = manifest.has_added_files() or manifest.has_existing_files()
        if manifest.content is not ManifestContent.DATA and live:
            raise UnsupportedDeletesError(
                f"snapshot {snapshot_id} has delete files, which K2 does not read yet",
                snapshot_id=snapshot_id,
            )


def read_manifest(manifest: ManifestFile, io: FileIO, columns: OwnColumns) -> tuple[FileEntry, ...]:
    bounds = Bounds(columns)
    return tuple(
        entry_of(entry.data_file, entry.snapshot_id or 0, bounds)
        for entry in manifest.fetch_manifest_entry(io)
    )


class Bounds:
    """Reads a file's bounds by column name."""

    def __init__(self, columns: OwnColumns) -> None:
        self._fields = {field.name: field for field in columns.schema.fields}

    def low(self, file: DataFile, column: str) -> object:
        return self._value(file.lower_bounds, column)

    def high(self, file: DataFile, column: str) -> object:
        return self._value(file.upper_bounds, column)

    def nulls(self, file: DataFile, column: str) -> int:
        """Count a column's nulls; where its writer did not, every row may be one."""
        field = self._fields.get(column)
        counts = file.null_value_counts or {}
        return counts.get(field.field_id, file.record_count) if field else file.record_count

    def _value(self, bounds: Mapping[int, bytes] | None, column: str) -> object:
        field = self._fields.get(column)
        encoded = (bounds or {}).get(field.field_id) if field else None
        return from_bytes(primitive(field), encoded) if field and encoded is not None else None


def entry_of(file: DataFile, snapshot_id: int, bounds: Bounds) -> FileEntry:
    """Describe a file; a bound it does not have is as wide as can be."""
    low, high = bounds.low, bounds.high
    topic_min, topic_max = low(file, "kafka_topic"), high(file, "kafka_topic")
    return FileEntry(
        path=openable(file.file_path),
        day=file.partition[0],
        bucket=file.partition[1],
        rows=file.record_count,
        size_bytes=file.file_size_in_bytes,
        symbol_min=as_text(low(file, "symbol"), ""),
        symbol_max=as_text(high(file, "symbol"), "\U0010ffff"),
        time_min_us=as_int(low(file, "timestamp"), EARLIEST_US),
        time_max_us=as_int(high(file, "timestamp"), LATEST_US),
        topic=as_text(topic_min, "") if topic_min == topic_max else "",
        partition_min=as_int(low(file, "kafka_partition"), 0),
        partition_max=as_int(high(file, "kafka_partition"), (1 << 31) - 1),
        offset_min=as_int(low(file, "kafka_offset"), 0),
        offset_max=as_int(high(file, "kafka_offset"), LATEST_US),
        snapshot_id=snapshot_id,
        held=shared(frozenset(file.value_counts or ())),
        unnumbered_rows=bounds.nulls(file, "source_sequence"),
    )


@lru_cache(maxsize=1024)
def shared(ids: frozenset[int]) -> frozenset[int]:
    """Return the one set of these ids: nearly all files have the same columns."""
    return ids


def openable(location: str) -> str:
    path = local_path(location)
    return location if path is None else str(path)


def as_int(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def as_text(value: object, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise
