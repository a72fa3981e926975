"""The seam: per partition the next offset, recorded in each snapshot's summary.

Rows below it are in Iceberg, rows from it on are in the tail. A partition that the table has never
seen stands at 0: every position below a seam is accounted for, also those the log no longer had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
from pyiceberg.table.metadata import TableMetadata, TableMetadataV1
from pyiceberg.table.snapshots import Operation, Snapshot

from libs.market.errors import K2Error

OFFSETS_KEY = "k2.offsets"
CLUSTER_ID_KEY = "k2.cluster-id"
COMMIT_ID_KEY = "k2.commit-id"
KIND_KEY = "k2.kind"
RANGES_KEY = "k2.ranges"
LOST_KEY = "k2.lost"
LEDGER_KEY = "k2.ledger"
SEAM_TAG = "k2-seam"


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class OffsetRange(NamedTuple):
    """Consumer positions from start up to, not including, end."""

    start: int
    end: int


Seam = Mapping[str, Mapping[int, int]]
Ranges = Mapping[TopicPartition, OffsetRange]

EMPTY_SEAM: Seam = {}


class MissingSeamError(K2Error):
    """The head says nothing of offsets: another tool wrote to the table, and K2 must not guess."""

    reason = "MISSING_SEAM"
    code = "FAILED_PRECONDITION"


def seam_of(metadata: TableMetadata) -> Seam:
    """Return the seam of the table's head.

    Raises:
        MissingSeamError: the head carries none and does not inherit one.
    """
    head = metadata.current_snapshot()
    if head is not None:
        return seam_at(metadata, head)
    if metadata.snapshots or last_sequence_number(metadata) > 0:
        raise MissingSeamError("the table was written to but has no current snapshot")
    return EMPTY_SEAM


def seam_at(metadata: TableMetadata, snapshot: Snapshot) -> Seam:
    """Return the seam of one snapshot; a foreign `replace` has that of the rows it rewrote.

    Raises:
        MissingSeamError: as `seam_of`.
    """
    return decode_offsets(summary_text(keeper_of_seam(metadata, snapshot), OFFSETS_KEY))


def keeper_of_seam(metadata: TableMetadata, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot itself or the ancestor whose seam it inherits."""
    for ancestor in ancestors(metadata, snapshot):
        if summary_text(ancestor, OFFSETS_KEY):
            return ancestor
        if ancestor.summary is None or ancestor.summary.operation is not Operation.REPLACE:
            raise MissingSeamError(
                f"snapshot {ancestor.snapshot_id} was written by another tool and has no offsets",
                snapshot_id=ancestor.snapshot_id,
            )
    raise MissingSeamError(
        f"snapshot {snapshot.snapshot_id} rewrote snapshots that are expired",
        snapshot_id=snapshot.snapshot_id,
    )


def last_sequence_number(metadata: TableMetadata) -> int:
    return 0 if isinstance(metadata, TableMetadataV1) else metadata.last_sequence_number


def summary_text(snapshot: Snapshot, key: str) -> str:
    """Return a value of the snapshot's summary, empty where it has none."""
    return str(snapshot.summary[key] or "") if snapshot.summary is not None else ""


def ancestors(metadata: TableMetadata, snapshot: Snapshot) -> Iterator[Snapshot]:
    """Yield a snapshot and those it grew from, newest first, as far as they are kept."""
    by_id = {kept.snapshot_id: kept for kept in metadata.snapshots}
    current: Snapshot | None = snapshot
    while current is not None:
        yield current
        parent = current.parent_snapshot_id
        current = by_id.get(parent) if parent is not None else None


def offset_at(seam: Seam, position: TopicPartition) -> int:
    return seam.get(position.topic, {}).get(position.partition, 0)


def advance(seam: Seam, ranges: Ranges) -> Seam:
    """Return the seam after these ranges are covered."""
    topics = {topic: dict(partitions) for topic, partitions in seam.items()}
    for (topic, partition), covered in ranges.items():
        topics.setdefault(topic, {})[partition] = covered.end
    return topics


def encode_sorted(topics: Mapping[str, Mapping[int, object]]) -> str:
    ordered = {topic: dict(sorted(topics[topic].items())) for topic in sorted(topics)}
    return msgspec.json.encode(ordered).decode()


def encode_offsets(seam: Seam) -> str:
    return encode_sorted(seam)


def decode_offsets(text: str) -> Seam:
    try:
        seam = msgspec.json.decode(text, type=dict[str, dict[int, int]])
    except msgspec.DecodeError as error:
        raise MissingSeamError(f"the seam {text[:80]!r} cannot be read: {error}") from error
    if any(offset < 0 for partitions in seam.values() for offset in partitions.values()):
        raise MissingSeamError(f"the seam {text[:80]!r} holds a negative offset")
    return seam


def encode_ranges(ranges: Ranges) -> str:
    topics: dict[str, dict[int, OffsetRange]] = {}
    for (topic, partition), covered in ranges.items():
        topics.setdefault(topic, {})[partition] = covered
    return encode_sorted(topics)


def decode_ranges(text: str) -> dict[TopicPartition, OffsetRange]:
    topics = msgspec.json.decode(text, type=dict[str, dict[int, OffsetRange]])
    return {
        TopicPartition(topic, partition): covered
        for topic, partitions in topics.items()
        for partition, covered in partitions.items()
    }
