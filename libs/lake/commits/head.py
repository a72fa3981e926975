"""What a commit builds on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from libs.lake.commits.seam import (
    CLUSTER_ID_KEY,
    COMMIT_ID_KEY,
    EMPTY_SEAM,
    OFFSETS_KEY,
    RANGES_KEY,
    Ranges,
    Seam,
    ancestors,
    decode_offsets,
    decode_ranges,
    keeper_of_seam,
    last_sequence_number,
    seam_of,
    summary_text,
)
from libs.lake.ledger.ledger import EMPTY_LEDGER, Ledger


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
    """The table's newest state. `commits` holds ours among all kept ancestors, by commit-id.

    `latest_ms` is the latest time in its log of snapshots, which need not be the head's.
    """

    snapshot_id: int | None
    seam: Seam
    cluster_id: str
    totals: Totals
    sequence_number: int
    latest_ms: int
    commits: Mapping[str, PastCommit]
    ledger: Ledger = EMPTY_LEDGER


def head_of(metadata: TableMetadata, ledger: Ledger = EMPTY_LEDGER) -> Head:
    """Read what a commit must know of the table's head; its ledger is in a file of its own.

    Raises:
        MissingSeamError: the head carries no seam and does not inherit one.
    """
    seam = seam_of(metadata)
    current = metadata.current_snapshot()
    if current is None:
        return Head(None, EMPTY_SEAM, "", Totals(0, 0, 0), 0, 0, {}, ledger)
    return Head(
        snapshot_id=current.snapshot_id,
        seam=seam,
        cluster_id=summary_text(keeper_of_seam(metadata, current), CLUSTER_ID_KEY),
        totals=totals_of(current),
        sequence_number=last_sequence_number(metadata),
        latest_ms=latest_ms(metadata),
        commits=commits_of(metadata, current),
        ledger=ledger,
    )


def latest_ms(metadata: TableMetadata) -> int:
    """Return the latest time in the log of snapshots, 0 where it is empty.

    PyIceberg goes by its own clock, and may stand behind a time that another's was ahead.
    """
    return max((entry.timestamp_ms for entry in metadata.snapshot_log), default=0)


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
