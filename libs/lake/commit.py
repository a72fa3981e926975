"""A commit as a pure function: (head, prepared) → plan, or why not. No I/O, no clock.

It is computed anew for every attempt, from that attempt's head and from nothing older.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from libs.lake.coverage import EMPTY_COVERAGE, Coverage
from libs.lake.ledger import EMPTY_LEDGER, Account, Ledger
from libs.lake.seam import (
    CLUSTER_ID_KEY,
    COMMIT_ID_KEY,
    EMPTY_SEAM,
    KIND_KEY,
    LOST_KEY,
    OFFSETS_KEY,
    RANGES_KEY,
    Ranges,
    Seam,
    TopicPartition,
    advance,
    ancestors,
    decode_offsets,
    decode_ranges,
    encode_offsets,
    encode_ranges,
    keeper_of_seam,
    last_sequence_number,
    offset_at,
    seam_of,
    summary_text,
)
from libs.market.errors import InvalidError, K2Error


class Kind(StrEnum):
    """What a commit does; each kind has its own fence."""

    APPEND = "append"
    LOST = "lost"
    BACKFILL = "backfill"
    COMPACTION = "compaction"
    VENUE = "venue"


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A data file, and the partition its rows were read from."""

    data_file: DataFile
    position: TopicPartition
    first_offset: int
    last_offset: int
    claims: Coverage = field(default_factory=lambda: EMPTY_COVERAGE)

    @property
    def rows(self) -> int:
        return self.data_file.record_count

    @property
    def size_bytes(self) -> int:
        return self.data_file.file_size_in_bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """One buffer on its way into the table; its commit-id stays the same across attempts.

    Ranges are consumer positions, not record offsets: compaction and aborted transactions leave
    holes. A range without files passes records by that were dead-lettered, or (LOST) that the log
    no longer has.
    """

    commit_id: str
    ranges: Ranges
    files: tuple[LakeFile, ...] = ()
    kind: Kind = Kind.APPEND
    cluster_id: str = ""
    accounts: Mapping[TopicPartition, Account] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.commit_id or not self.ranges:
            raise InvalidError("a commit needs an id and at least one range", field="ranges")
        for position, covered in self.ranges.items():
            if not 0 <= covered.start < covered.end:
                raise InvalidError(f"{position} has the empty range {covered}", field="ranges")
        if self.kind is Kind.LOST and self.files:
            raise InvalidError("a commit of lost ranges has no files", field="files")
        for file in self.files:
            refuse_stray(file, self.ranges)


@dataclass(frozen=True, slots=True)
class Totals:
    rows: int
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PastCommit:
    """A commit of ours that is in the table."""

    snapshot_id: int
    seam: Seam
    ranges: Ranges
    rows: int


@dataclass(frozen=True, slots=True)
class Head:
    """What a commit builds on. `commits` holds ours among all kept ancestors, by commit-id."""

    snapshot_id: int | None
    seam: Seam
    cluster_id: str
    totals: Totals
    sequence_number: int
    timestamp_ms: int
    commits: Mapping[str, PastCommit]
    ledger: Ledger = EMPTY_LEDGER


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """A commit that is valid on `parent_id` and on no other head."""

    parent_id: int | None
    sequence_number: int
    timestamp_ms: int
    ranges: Ranges
    files: tuple[LakeFile, ...]
    seam: Seam
    fenced: Mapping[TopicPartition, int]
    summary: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AlreadyLanded:
    """An earlier attempt is in the table; `fenced` are partitions it did without."""

    past: PastCommit
    fenced: Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Refused:
    """No partition's fence holds: drop the buffer and seek to these offsets, landed or not."""

    fenced: Mapping[TopicPartition, int]


class ForeignLogError(K2Error):
    """The table's offsets are of another Kafka cluster; going on would mix two logs."""

    reason = "FOREIGN_LOG"
    code = "FAILED_PRECONDITION"


def head_of(metadata: TableMetadata) -> Head:
    """Read what a commit must know of the table's head.

    Raises:
        MissingSeamError: the head carries no seam and does not inherit one.
    """
    seam = seam_of(metadata)
    current = metadata.current_snapshot()
    if current is None:
        return Head(None, EMPTY_SEAM, "", Totals(0, 0, 0), 0, 0, {})
    return Head(
        snapshot_id=current.snapshot_id,
        seam=seam,
        cluster_id=summary_text(keeper_of_seam(metadata, current), CLUSTER_ID_KEY),
        totals=totals_of(current),
        sequence_number=last_sequence_number(metadata),
        timestamp_ms=current.timestamp_ms,
        commits=commits_of(metadata, current),
    )


def plan_commit(
    head: Head, prepared: Prepared, *, now_ms: int
) -> CommitPlan | AlreadyLanded | Refused:
    """Decide what to send to the catalog: those partitions whose fence holds in this head.

    A commit that landed and is expired again is not found by its id; its fence fails then, for the
    head is at or past its ranges. Either way the rows are in the table once.

    Raises:
        ForeignLogError: the head's offsets are of another Kafka cluster.
    """
    if past := head.commits.get(prepared.commit_id):
        return AlreadyLanded(past, fenced_off(head.seam, prepared.ranges, landed=past.ranges))
    refuse_foreign_log(head, prepared)
    valid = {
        position: covered
        for position, covered in prepared.ranges.items()
        if offset_at(head.seam, position) == covered.start
    }
    fenced = fenced_off(head.seam, prepared.ranges, landed=valid)
    if not valid:
        return Refused(fenced)
    return plan_valid(head, prepared, valid, fenced, now_ms)


def plan_valid(
    head: Head,
    prepared: Prepared,
    valid: Ranges,
    fenced: Mapping[TopicPartition, int],
    now_ms: int,
) -> CommitPlan:
    files = tuple(file for file in prepared.files if file.position in valid)
    seam = advance(head.seam, valid)
    return CommitPlan(
        parent_id=head.snapshot_id,
        sequence_number=head.sequence_number + 1,
        timestamp_ms=max(now_ms, head.timestamp_ms + 1),
        ranges=valid,
        files=files,
        seam=seam,
        fenced=fenced,
        summary={**counts(head.totals, files), **k2_summary(head, prepared, seam, valid)},
    )


def fenced_off(seam: Seam, ranges: Ranges, *, landed: Ranges) -> dict[TopicPartition, int]:
    return {position: offset_at(seam, position) for position in ranges if position not in landed}


def refuse_foreign_log(head: Head, prepared: Prepared) -> None:
    ids = (head.cluster_id, prepared.cluster_id)
    if all(ids) and ids[0] != ids[1]:
        raise ForeignLogError(
            f"the table's offsets are of Kafka cluster {ids[0]}, these rows of {ids[1]}",
            table_cluster_id=ids[0],
            cluster_id=ids[1],
        )


def refuse_stray(file: LakeFile, ranges: Ranges) -> None:
    covered = ranges.get(file.position)
    if covered is None or not covered.start <= file.first_offset <= file.last_offset < covered.end:
        raise InvalidError(
            f"{file.data_file.file_path} holds offsets {file.first_offset} to {file.last_offset}"
            f" of {file.position}, outside what the commit covers ({covered})",
            field="files",
        )


def k2_summary(head: Head, prepared: Prepared, seam: Seam, valid: Ranges) -> dict[str, str]:
    lost = {LOST_KEY: encode_ranges(valid)} if prepared.kind is Kind.LOST else {}
    return {
        OFFSETS_KEY: encode_offsets(seam),
        CLUSTER_ID_KEY: prepared.cluster_id or head.cluster_id,
        COMMIT_ID_KEY: prepared.commit_id,
        KIND_KEY: prepared.kind.value,
        RANGES_KEY: encode_ranges(valid),
        **lost,
    }


def counts(before: Totals, files: tuple[LakeFile, ...]) -> dict[str, str]:
    rows = sum(file.rows for file in files)
    size_bytes = sum(file.size_bytes for file in files)
    return {
        "added-data-files": str(len(files)),
        "added-records": str(rows),
        "added-files-size": str(size_bytes),
        "total-data-files": str(before.files + len(files)),
        "total-records": str(before.rows + rows),
        "total-files-size": str(before.size_bytes + size_bytes),
        "total-delete-files": "0",
        "total-position-deletes": "0",
        "total-equality-deletes": "0",
    }


def totals_of(snapshot: Snapshot) -> Totals:
    return Totals(
        rows=int(summary_text(snapshot, "total-records") or 0),
        files=int(summary_text(snapshot, "total-data-files") or 0),
        size_bytes=int(summary_text(snapshot, "total-files-size") or 0),
    )


def commits_of(metadata: TableMetadata, head: Snapshot) -> dict[str, PastCommit]:
    return {
        commit_id: PastCommit(
            snapshot_id=ancestor.snapshot_id,
            seam=decode_offsets(summary_text(ancestor, OFFSETS_KEY)),
            ranges=decode_ranges(summary_text(ancestor, RANGES_KEY) or "{}"),
            rows=int(summary_text(ancestor, "added-records") or 0),
        )
        for ancestor in ancestors(metadata, head)
        if (commit_id := summary_text(ancestor, COMMIT_ID_KEY))
    }
