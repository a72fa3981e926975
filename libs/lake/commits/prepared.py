"""What is on its way into the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pyiceberg.manifest import DataFile

from libs.lake.commits.seam import Ranges, TopicPartition
from libs.lake.ledger.coverage import EMPTY_COVERAGE, Coverage
from libs.lake.ledger.ledger import Account, Holes
from libs.market.errors import InvalidError


class Kind(StrEnum):
    """What a commit does; each kind has its own fence.

    APPEND      rows from the seam on
    LOST        positions that the log no longer has, at the seam or in an open shed range
    BACKFILL    rows of an open shed range, which it closes
    COMPACTION  the same rows in other files (rewrite.py)
    VENUE       ids that never were at the venue
    """

    APPEND = "append"
    LOST = "lost"
    BACKFILL = "backfill"
    COMPACTION = "compaction"
    VENUE = "venue"


WITHOUT_FILES = (Kind.LOST, Kind.VENUE)


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A data file, the partition its rows were read from, and the ids of its rows.

    `written_us` is when writing it began; 0 where nobody knows.
    """

    data_file: DataFile
    position: TopicPartition
    first_offset: int
    last_offset: int
    claims: Coverage = field(default_factory=lambda: EMPTY_COVERAGE)
    written_us: int = 0

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
    holes. A range without files passes records by that were dead-lettered or shed, or (LOST) that
    the log no longer has. `accounts` say what became of those. `leans` names the partitions whose
    rows in this buffer made others of it duplicates: one is worth nothing without the other.
    """

    commit_id: str
    ranges: Ranges
    files: tuple[LakeFile, ...] = ()
    kind: Kind = Kind.APPEND
    cluster_id: str = ""
    accounts: Mapping[TopicPartition, Account] = field(default_factory=dict)
    leans: Mapping[TopicPartition, frozenset[TopicPartition]] = field(default_factory=dict)
    holes: Holes = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.commit_id or (not self.ranges and self.kind is not Kind.VENUE):
            raise InvalidError("a commit needs an id and at least one range", field="ranges")
        for position, covered in self.ranges.items():
            if not 0 <= covered.start < covered.end:
                raise InvalidError(f"{position} has the empty range {covered}", field="ranges")
        if self.files and self.kind in WITHOUT_FILES:
            raise InvalidError(f"a commit of kind {self.kind} has no files", field="files")
        if bool(self.holes) != (self.kind is Kind.VENUE):
            raise InvalidError("holes are declared by a commit of kind venue", field="holes")
        for file in self.files:
            refuse_stray(file, self.ranges)


def refuse_stray(file: LakeFile, ranges: Ranges) -> None:
    covered = ranges.get(file.position)
    if covered is None or not covered.start <= file.first_offset <= file.last_offset < covered.end:
        raise InvalidError(
            f"{file.data_file.file_path} holds offsets {file.first_offset} to {file.last_offset}"
            f" of {file.position}, outside what the commit covers ({covered})",
            field="files",
        )
