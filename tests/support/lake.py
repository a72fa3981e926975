"""A lake for tests: a store with injected answers, made-up data files, rows of trades."""

from __future__ import annotations

import itertools
import uuid
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    RemoveSnapshotsUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
    update_table_metadata,
)
from pyiceberg.typedef import Record

from libs.lake.commits.commit import Kind, LakeFile, Prepared
from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.table.tables import (
    TRADES,
    TRADES_ORDER,
    TRADES_PROPERTIES,
    TRADES_SCHEMA,
    TRADES_SPEC,
)
from libs.market.errors import ConflictError, UnavailableError

TOPIC = "market.crypto.trades.binance"


class Answer(Enum):
    """What the catalog answers to one commit, and what it does with it."""

    LAND = auto()
    CONFLICT = auto()
    ECHO_AS_CONFLICT = auto()
    TIMEOUT_AFTER_LANDING = auto()
    TIMEOUT_BEFORE_LANDING = auto()
    LAND_AFTER_RELOAD = auto()


Request = tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]


class MemoryStore:
    """PyIceberg's own rules of a commit on metadata in memory, with answers to order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: deque[Answer] = deque()
        self.late: list[Request] = []
        self.sent = 0
        self.metadata: TableMetadata = new_table_metadata(
            schema=TRADES_SCHEMA,
            partition_spec=TRADES_SPEC,
            sort_order=TRADES_ORDER,
            location=(folder / "trades").as_uri(),
            properties=TRADES_PROPERTIES,
        )

    @property
    def warehouse(self) -> str:
        return self.folder.as_uri()

    def load_table(self, identifier: str) -> Table:
        table = Table(
            identifier=tuple(identifier.split(".")),
            metadata=self.metadata,
            metadata_location=f"{self.folder.as_uri()}/metadata/none.json",
            io=PyArrowFileIO(),
            catalog=None,  # type: ignore[arg-type]  # a commit goes through the store alone
        )
        self.land_late()
        return table

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        self.sent += 1
        answer = self.answers.popleft() if self.answers else Answer.LAND
        if answer is Answer.LAND_AFTER_RELOAD:
            self.late.append((requirements, updates))
        if answer in (Answer.LAND_AFTER_RELOAD, Answer.TIMEOUT_BEFORE_LANDING):
            raise UnavailableError("no answer")
        if answer is Answer.CONFLICT:
            raise ConflictError("somebody was faster")
        self.land(requirements, updates)
        if answer is Answer.TIMEOUT_AFTER_LANDING:
            raise UnavailableError("no answer")
        if answer is Answer.ECHO_AS_CONFLICT:
            raise ConflictError("somebody was faster, and it was you")
        return CommitTableResponse.model_validate(
            {"metadata": self.metadata, "metadata-location": table.metadata_location}
        )

    def land(
        self, requirements: Sequence[TableRequirement], updates: Sequence[TableUpdate]
    ) -> None:
        for requirement in requirements:
            try:
                requirement.validate(self.metadata)
            except CommitFailedException as error:
                raise ConflictError(str(error)) from error
        self.metadata = update_table_metadata(self.metadata, tuple(updates))

    def land_late(self) -> None:
        """Let what was sent long ago arrive now, if its requirements still hold."""
        for requirements, updates in self.late:
            try:
                self.land(requirements, updates)
            except ConflictError:
                continue
        self.late.clear()

    def expire(self, *, keep: int = 1) -> None:
        """Forget all but the newest snapshots, as a maintenance job would."""
        ordered = sorted(
            self.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0
        )
        old = [snapshot.snapshot_id for snapshot in ordered[:-keep]]
        if old:
            update = RemoveSnapshotsUpdate.model_validate({"snapshot-ids": old})
            self.metadata = update_table_metadata(self.metadata, (update,))

    def live_files(self) -> list[DataFile]:
        head = self.metadata.current_snapshot()
        manifests = head.manifests(PyArrowFileIO()) if head else []
        return [
            entry.data_file
            for manifest in manifests
            for entry in manifest.fetch_manifest_entry(PyArrowFileIO())
        ]


names = itertools.count()


def made_up_file(
    partition: int, first: int, last: int, *, topic: str = TOPIC, folder: str = ""
) -> LakeFile:
    """Return a data file that is a name and counts; its name tells the offsets it stands for."""
    place = f"file:///nowhere/{topic}/{partition}/{folder or f'{first}-{last}'}"
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{place}/{next(names)}.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(20_000, partition),
        record_count=last - first + 1,
        file_size_in_bytes=100,
    )
    data_file.spec_id = 0
    return LakeFile(data_file, TopicPartition(topic, partition), first, last)


def offsets_of(file: DataFile) -> tuple[int, range]:
    """Return the partition and offsets that a made-up file stands for."""
    partition, extent = file.file_path.split("/")[-3:-1]
    first, last = extent.split("-")
    return int(partition), range(int(first), int(last) + 1)


def prepared(
    *ranges: tuple[int, int, int],
    commit_id: str = "",
    kind: Kind = Kind.APPEND,
    cluster_id: str = "kafka-1",
) -> Prepared:
    """Return a buffer covering (partition, start, end) each, a file for each."""
    covered = {TopicPartition(TOPIC, p): OffsetRange(start, end) for p, start, end in ranges}
    files = [made_up_file(p, start, end - 1) for p, start, end in ranges]
    return Prepared(
        commit_id=commit_id or str(uuid.uuid4()),
        ranges=covered,
        files=tuple(files) if kind is Kind.APPEND else (),
        kind=kind,
        cluster_id=cluster_id,
    )


def load(store: MemoryStore) -> Table:
    return store.load_table(TRADES)


def foreign(store: MemoryStore, operation: Operation, *, parent: int | None = None) -> int:
    """Commit a snapshot as another tool would: without a word on offsets."""
    head = store.metadata.current_snapshot()
    snapshot_id = store.metadata.new_snapshot_id()
    snapshot = Snapshot.model_validate(
        {
            "snapshot-id": snapshot_id,
            "parent-snapshot-id": parent or (head.snapshot_id if head else None),
            "manifest-list": head.manifest_list if head else "file:///nowhere.avro",
            "sequence-number": store.metadata.next_sequence_number(),
            "summary": Summary(operation, **{"total-records": "3", "total-data-files": "1"}),
        }
    )
    ref = {"ref-name": "main", "type": SnapshotRefType.BRANCH, "snapshot-id": snapshot_id}
    store.land((), (AddSnapshotUpdate(snapshot=snapshot), SetSnapshotRefUpdate.model_validate(ref)))
    return snapshot_id
