"""A part's rows on their way into files: each trade once, and what contradicts one held apart.

First wins: in the table, then in the files of the same commit, then further up in the buffer.
Blocking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from libs.lake.commits.prepared import LakeFile
from libs.lake.commits.seam import TopicPartition
from libs.lake.files.held import HeldRows, in_files
from libs.lake.files.index import SnapshotIndex
from libs.lake.ledger.claims import TEXTS, Wins, claims_of, first_wins
from libs.lake.ledger.coverage import Counts, Coverage, Series, overlaps, union
from libs.lake.ledger.ledger import Ledger, add_counts
from libs.lake.ledger.same_trade import COMPARED, Conflict, Source, conflicts
from libs.wire.codes import decoded
from libs.wire.rejection import Reason, Rejected

Encode = Callable[[pa.Table], list[bytes]]


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a part's rows. `leans`: partitions that hold the first of a duplicate."""

    files: tuple[LakeFile, ...] = ()
    duplicates: Counts = field(default_factory=dict)
    conflicts: tuple[Rejected, ...] = ()
    leans: frozenset[TopicPartition] = frozenset()

    def with_file_replaced(self, old: LakeFile, new: Written) -> Written:
        """Return what is left once a file is written anew without some of its rows."""
        at = self.files.index(old)
        return Written(
            (*self.files[:at], *new.files, *self.files[at + 1 :]),
            add_counts(self.duplicates, [new.duplicates]),
            (*self.conflicts, *new.conflicts),
            self.leans | new.leans,
        )


@dataclass(frozen=True, slots=True)
class Sifted:
    """The rows to write, their ids, and what became of the others."""

    kept: pa.Table
    claims: Coverage
    others: Written


@dataclass(frozen=True, slots=True)
class Sieve:
    """Keeps what is new of some rows.

    `beside` are files of the same commit; `index` answers the table's own files, asked only where
    there are duplicates.
    """

    table: Table
    ledger: Ledger
    index: Callable[[], SnapshotIndex]
    encode: Encode
    beside: Sequence[LakeFile] = ()

    def sift(self, rows: pa.Table) -> Sifted:
        """Part the rows to write from the others.

        Raises:
            UnavailableError: a file of the table cannot be read.
        """
        wins = first_wins(rows, self._known())
        if not wins.duplicates:
            return Sifted(rows, wins.claims, Written())
        kept = rows.filter(pa.array(wins.keep)) if wins.keep.any() else rows.slice(0, 0)
        dropped = np.flatnonzero(~wins.keep)
        compared = decoded(rows.select(COMPARED).take(pa.array(dropped)))
        claims = claims_of(compared)
        near = [file for file in self.beside if overlaps(file.claims, claims)]
        found = conflicts(compared, self._sources(kept, wins, near, claims))
        contradicting = rows.take(
            pa.array(dropped[np.array([c.row for c in found], dtype=np.int64)])
        )
        others = Written(
            duplicates=without(wins.duplicates, contradicting),
            conflicts=tuple(self._rejected(contradicting, found)),
            leans=frozenset(file.position for file in near),
        )
        return Sifted(kept, wins.claims, others)

    def _known(self) -> Coverage:
        return reduce(union, (file.claims for file in self.beside), self.ledger.coverage)

    def _sources(
        self, kept: pa.Table, wins: Wins, near: Sequence[LakeFile], claims: Coverage
    ) -> Iterator[Source]:
        if overlaps(wins.claims, claims):
            yield lambda _, names: decoded(kept.select(names))
        index = self.index()
        if near:
            paths = [file.data_file.file_path for file in near]
            yield in_files(self.table.io, paths, index.columns)
        held = HeldRows(self.table.io, replace(index, ledger=self.ledger))
        yield held.near
        yield held.anywhere

    def _rejected(self, rows: pa.Table, found: Sequence[Conflict]) -> Iterator[Rejected]:
        told = zip(found, rows.to_pylist(), self.encode(rows), strict=True)
        for conflict, row, raw in told:
            detail = contradiction(row, conflict.held)
            yield Rejected(row["kafka_offset"], Reason.CONFLICT, detail, raw, row["symbol"])


def without(counts: Counts, rows: pa.Table) -> Counts:
    """Return the duplicates less these rows: they turned out to be conflicts."""
    conflicting = Counter(
        map(Series, *(rows[name].to_pylist() for name in (*TEXTS, "sequence_epoch")))
    )
    left = {series: count - conflicting[series] for series, count in counts.items()}
    return {series: count for series, count in left.items() if count}


def contradiction(row: Mapping[str, object], held: Mapping[str, object] | None) -> str:
    """Name both rows."""
    first = "not found in the table's files" if held is None else told(held)
    return f"id {row['source_sequence']} of {row['symbol']} is held: {first}; this is {told(row)}"


def told(row: Mapping[str, object]) -> str:
    return (
        f"{row['side']} {row['quantity']} at {row['price']}, {row['timestamp']}"
        f" ({row['kafka_topic']}/{row['kafka_partition']}/{row['kafka_offset']})"
    )
