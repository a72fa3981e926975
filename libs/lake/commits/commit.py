"""A commit as a pure function: (head, prepared) → plan, or why not. No I/O, no clock.

It is computed anew for every attempt, from that attempt's head and from nothing older.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.lake.commits.fence import held_holes, ledger_after, repeated, seam_after, valid_ranges
from libs.lake.commits.head import Head, PastCommit, Totals, head_of, totals_of
from libs.lake.commits.prepared import Kind, LakeFile, Prepared
from libs.lake.commits.seam import (
    CLUSTER_ID_KEY,
    COMMIT_ID_KEY,
    KIND_KEY,
    LOST_KEY,
    OFFSETS_KEY,
    RANGES_KEY,
    Ranges,
    Seam,
    TopicPartition,
    encode_offsets,
    encode_ranges,
    offset_at,
)
from libs.lake.ledger.ledger import Ledger, with_line
from libs.market.errors import K2Error

__all__ = [
    "AlreadyLanded",
    "CommitPlan",
    "ForeignLogError",
    "Head",
    "Kind",
    "LakeFile",
    "Overlap",
    "PastCommit",
    "Prepared",
    "Refused",
    "Totals",
    "head_of",
    "plan_commit",
    "totals_of",
]


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """A commit that is valid on `parent_id` and on no other head.

    The summary lacks where the ledger is: it is written for the attempt that sends the plan.
    """

    parent_id: int | None
    sequence_number: int
    timestamp_ms: int
    ranges: Ranges
    files: tuple[LakeFile, ...]
    seam: Seam
    fenced: Mapping[TopicPartition, int]
    summary: Mapping[str, str]
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class AlreadyLanded:
    """An earlier attempt is in the table; `fenced` are partitions it did without."""

    past: PastCommit
    fenced: Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Refused:
    """No partition's fence holds: drop the buffer and seek to these offsets, landed or not."""

    fenced: Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Overlap:
    """These files hold trades that `ledger` says the table holds, or a file before them.

    Drop those rows, write such files anew, and try again under the same commit-id.
    """

    files: tuple[LakeFile, ...]
    ledger: Ledger


class ForeignLogError(K2Error):
    """The table's offsets are of another Kafka cluster; going on would mix two logs."""

    reason = "FOREIGN_LOG"
    code = "FAILED_PRECONDITION"


def plan_commit(
    head: Head, prepared: Prepared, *, now_ms: int, oldest_us: int = 0
) -> CommitPlan | AlreadyLanded | Refused | Overlap:
    """Decide what to send to the catalog: those partitions whose fence holds in this head.

    A commit that landed and is expired again is not found by its id; its fence fails then, for the
    head is at or past its ranges. Either way the rows are in the table once.

    A partition with a file that was begun before `oldest_us` is fenced off too: the file may count
    as an orphan by now.

    Raises:
        ForeignLogError: the head's offsets are of another Kafka cluster.
    """
    if past := head.commits.get(prepared.commit_id):
        return AlreadyLanded(past, fenced_off(head.seam, prepared.ranges, landed=past.ranges))
    refuse_foreign_log(head, prepared)
    valid = valid_ranges(head, prepared, oldest_us=oldest_us)
    fenced = fenced_off(head.seam, prepared.ranges, landed=valid)
    if not valid and (prepared.ranges or held_holes(head, prepared.holes)):
        return Refused(fenced)
    files = tuple(file for file in prepared.files if file.position in valid)
    if again := repeated(head, files):
        return Overlap(again, head.ledger)
    return plan_valid(head, prepared, valid, files, max(now_ms, head.latest_ms + 1))


def plan_valid(
    head: Head, prepared: Prepared, valid: Ranges, files: tuple[LakeFile, ...], timestamp_ms: int
) -> CommitPlan:
    seam = seam_after(head, valid)
    ledger = ledger_after(head.ledger, prepared, valid, files, timestamp_ms * 1000)
    return CommitPlan(
        parent_id=head.snapshot_id,
        sequence_number=head.sequence_number + 1,
        timestamp_ms=timestamp_ms,
        ranges=valid,
        files=files,
        seam=seam,
        fenced=fenced_off(head.seam, prepared.ranges, landed=valid),
        summary={**counts(head.totals, files), **k2_summary(head, prepared, seam, valid)},
        ledger=with_line(ledger, timestamp_ms * 1000, seam),
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
