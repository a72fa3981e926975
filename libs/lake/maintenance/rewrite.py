"""The commit of a rewrite, its fence and what it carries forward. Pure.

A rewrite changes no row and no offset. It is valid on any head in which every input file is live,
so an append that was faster costs it a manifest, not the work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from libs.lake.commits.head import Totals, latest_ms, totals_of
from libs.lake.commits.prepared import Kind
from libs.lake.commits.seam import (
    COMMIT_ID_KEY,
    KIND_KEY,
    LOST_KEY,
    RANGES_KEY,
    ancestors,
    keeper_of_seam,
    last_sequence_number,
    summary_text,
)
from libs.lake.files.index import openable
from libs.market.errors import InvalidError

OWN_KEYS = "k2."
# What one commit says of itself alone; all other keys are the table's and go on.
OF_ONE_COMMIT = frozenset({COMMIT_ID_KEY, KIND_KEY, RANGES_KEY, LOST_KEY})


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Files to put in the place of others that hold the same rows.

    `removed` are paths as the snapshot index has them. `sequence_number` is the head's when the
    inputs were read: delete files from later on must still apply to the new ones.
    """

    commit_id: str
    removed: frozenset[str]
    added: tuple[DataFile, ...]
    written_us: int
    sequence_number: int

    def __post_init__(self) -> None:
        if not self.removed or not self.added:
            raise InvalidError("a rewrite takes files away and adds some", field="removed")

    @property
    def rows(self) -> int:
        return sum(file.record_count for file in self.added)


@dataclass(frozen=True, slots=True)
class RewritePlan:
    """A rewrite that is valid on `parent_id` and on no other head."""

    parent_id: int
    sequence_number: int
    timestamp_ms: int
    rewrite: Rewrite
    summary: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RewriteLanded:
    """An earlier attempt is in the table."""

    snapshot_id: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """The fence fails: these inputs are not live any more, or the new files are too old."""

    missing: frozenset[str]


def plan_rewrite(
    metadata: TableMetadata,
    live: Mapping[str, int],
    rewrite: Rewrite,
    *,
    now_ms: int,
    oldest_us: int = 0,
) -> RewritePlan | RewriteLanded | Superseded:
    """Decide what becomes of a rewrite on this head, whose live files and their sizes are given.

    Files written before `oldest_us` are not committed any more: they may count as orphans.

    Raises:
        MissingSeamError: another tool wrote to the table.
    """
    head = metadata.current_snapshot()
    if head is None:
        return Superseded(rewrite.removed)
    carried = carried_keys(keeper_of_seam(metadata, head))
    landed = landed_as(metadata, head, live, rewrite)
    if landed is not None:
        return RewriteLanded(landed)
    missing = rewrite.removed - live.keys()
    if missing or rewrite.written_us < oldest_us:
        return Superseded(missing)
    own = {COMMIT_ID_KEY: rewrite.commit_id, KIND_KEY: Kind.COMPACTION.value}
    removed_bytes = sum(live[path] for path in rewrite.removed)
    return RewritePlan(
        parent_id=head.snapshot_id,
        sequence_number=last_sequence_number(metadata) + 1,
        timestamp_ms=max(now_ms, latest_ms(metadata) + 1),
        rewrite=rewrite,
        summary={**counts(totals_of(head), rewrite, removed_bytes), **carried, **own},
    )


def carried_keys(keeper: Snapshot) -> dict[str, str]:
    """Return what a snapshot says of the table, and not of its own commit alone."""
    held = keeper.summary.additional_properties if keeper.summary else {}
    return {
        key: value
        for key, value in held.items()
        if key.startswith(OWN_KEYS) and key not in OF_ONE_COMMIT
    }


def landed_as(
    metadata: TableMetadata, head: Snapshot, live: Collection[str], rewrite: Rewrite
) -> int | None:
    """Return the snapshot that brought the rewrite; the head where that one is expired."""
    for ancestor in ancestors(metadata, head):
        if summary_text(ancestor, COMMIT_ID_KEY) == rewrite.commit_id:
            return ancestor.snapshot_id
    return head.snapshot_id if is_live(rewrite, live) else None


def is_live(rewrite: Rewrite, live: Collection[str]) -> bool:
    """Say whether the new files are in the table: it landed, and its snapshot is expired."""
    return any(openable(file.file_path) in live for file in rewrite.added)


def counts(before: Totals, rewrite: Rewrite, removed_bytes: int) -> dict[str, str]:
    size_bytes = sum(file.file_size_in_bytes for file in rewrite.added)
    return {
        "added-data-files": str(len(rewrite.added)),
        "added-records": str(rewrite.rows),
        "added-files-size": str(size_bytes),
        "deleted-data-files": str(len(rewrite.removed)),
        "deleted-records": str(rewrite.rows),
        "removed-files-size": str(removed_bytes),
        "total-data-files": str(before.files + len(rewrite.added) - len(rewrite.removed)),
        "total-records": str(before.rows),
        "total-files-size": str(before.size_bytes + size_bytes - removed_bytes),
        "total-delete-files": "0",
        "total-position-deletes": "0",
        "total-equality-deletes": "0",
    }
