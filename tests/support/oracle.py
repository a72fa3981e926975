"""The seam invariant, checked: what became of every position that was ever produced.

Every position below a snapshot's offset is exactly one of: stored, dropped as a duplicate,
dead-lettered, in an open shed range, recorded as lost, not a record. Pure, and none of it is the
writer's own code: evidence goes in, what is wrong with it comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import duckdb
import pyarrow as pa

from libs.lake.commits.seam import EMPTY_SEAM, Seam, TopicPartition, offset_at
from libs.lake.ledger.coverage import Series, contains, held_ids
from libs.lake.ledger.ledger import EMPTY_LEDGER, Dead, Ledger, Lost, Shed
from tests.support import fates

EXAMPLES = 5

POSITION = [("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64())]
IDENTITY = [
    ("exchange", pa.string()),
    ("asset_class", pa.string()),
    ("symbol", pa.string()),
    ("epoch", pa.int32()),
    ("sequence", pa.int64()),
]
VALUES = [
    ("trade_id", pa.string()),
    ("price", pa.decimal128(28, 12)),
    ("quantity", pa.decimal128(28, 12)),
    ("side", pa.string()),
    ("time_us", pa.int64()),
]
STORED = pa.schema([*POSITION, *IDENTITY, *VALUES])
# `key` is the record's own; a record that is no trade has a key and nothing else.
LOGGED = pa.schema([*POSITION, ("key", pa.string()), *IDENTITY, *VALUES])
LETTERS = pa.schema(POSITION)
BOOKS = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("symbols", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class SnapshotSeen:
    """One kept snapshot, as the table's log of them has it; `foreign` of another tool."""

    snapshot_id: int
    timestamp_ms: int
    seam: Seam
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the log ever held, what the table holds now, and what it says of the rest.

    `logged` has every position produced that this test may be asked about, also those the log has
    lost since; `ends` is where the log ends. `files_missing` are named by a kept snapshot.
    """

    logged: pa.Table
    stored: pa.Table
    letters: pa.Table
    seam: Seam = field(default_factory=lambda: EMPTY_SEAM)
    ends: Mapping[TopicPartition, int] = field(default_factory=dict)
    ledger: Ledger = EMPTY_LEDGER
    snapshots: tuple[SnapshotSeen, ...] = ()
    files_missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which evidence breaks the invariant, with some of the places."""

    kind: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}: {self.count}, such as {'; '.join(self.examples)}"


def violations(evidence: Evidence) -> list[Violation]:
    """Return everything that is wrong."""
    found = [*of_positions(evidence)]
    for kind, check in CHECKS.items():
        places = list(check(evidence))
        if places:
            found.append(Violation(kind, len(places), tuple(places[:EXAMPLES])))
    return found


def assert_sound(evidence: Evidence) -> None:
    """Fail with all that is wrong."""
    found = violations(evidence)
    assert not found, "\n".join(map(str, found))


def undrained(evidence: Evidence) -> list[str]:
    """Say what is still on its way: positions past the seam, and open shed ranges."""
    waiting = [
        f"{place.topic}/{place.partition} stands at {offset_at(evidence.seam, place)} of {end}"
        for place, end in evidence.ends.items()
        if offset_at(evidence.seam, place) != end
    ]
    open_ranges = (shed for book in evidence.ledger.partitions.values() for shed in book.shed)
    return waiting + [f"shed {shed.start} to {shed.end}" for shed in open_ranges]


def tally(evidence: Evidence) -> dict[str, int]:
    """Count positions by what became of them."""
    with fates.database(tables(evidence)) as database:
        return dict(database.sql(fates.TALLY).fetchall())


def of_positions(evidence: Evidence) -> Iterator[Violation]:
    with fates.database(tables(evidence)) as database:
        for kind, query in fates.VIOLATIONS.items():
            count, examples = sample(database, query)
            if count:
                yield Violation(kind, count, examples)


def sample(database: duckdb.DuckDBPyConnection, query: str) -> tuple[int, tuple[str, ...]]:
    rows = database.sql(query).fetchall()
    return len(rows), tuple("/".join(map(str, row)) for row in sorted(rows)[:EXAMPLES])


def tables(evidence: Evidence) -> dict[str, pa.Table]:
    """Return the evidence as tables, for SQL."""
    ledger = evidence.ledger
    books = {
        kind: [
            (*place, one.start, one.end, symbols_of(one))
            for place, book in ledger.partitions.items()
            for one in getattr(book, kind)
        ]
        for kind in ("shed", "dead", "lost")
    }
    return {
        "logged": evidence.logged.cast(LOGGED),
        "stored": evidence.stored.cast(STORED),
        "letters": evidence.letters.cast(LETTERS),
        "seam": seam_table(evidence.seam),
        "counted": counted_table(ledger.duplicates),
        **{f"{kind}_ranges": rows_of(BOOKS, rows) for kind, rows in books.items()},
    }


def symbols_of(one: Shed | Dead | Lost) -> list[str]:
    """Return the keys that a range is about; of the others, all."""
    return [] if isinstance(one, Dead) else list(one.symbols)


def seam_table(seam: Seam) -> pa.Table:
    rows = [(topic, p, at) for topic, places in seam.items() for p, at in places.items()]
    return rows_of(pa.schema([*POSITION[:2], ("next", pa.int64())]), rows)


def counted_table(duplicates: Mapping[Series, int]) -> pa.Table:
    rows = [(*series, count) for series, count in duplicates.items()]
    return rows_of(pa.schema([*IDENTITY[:4], ("count", pa.int64())]), rows)


def rows_of(schema: pa.Schema, rows: Sequence[tuple[object, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([list(column) for column in columns], schema=schema)


def coverage_is_wrong(evidence: Evidence) -> Iterator[str]:
    """Compare the ids that the ledger says are held with those of the rows, both ways."""
    coverage = evidence.ledger.coverage
    numbered = evidence.stored.filter(evidence.stored["sequence"].is_valid())
    distinct = 0
    for series, ids in fates.ids_by_series(numbered):
        held = contains(coverage, series, ids)
        distinct += len(ids)
        yield from (f"{series} {at} is stored, not covered" for at in ids[~held].tolist())
    if held_ids(coverage) != distinct:
        yield f"{held_ids(coverage)} ids are covered, {distinct} stored"


def books_past_the_seam(evidence: Evidence) -> Iterator[str]:
    for place, book in evidence.ledger.partitions.items():
        ranges: tuple[Shed | Dead | Lost, ...] = (*book.shed, *book.dead, *book.lost)
        for one in ranges:
            if one.end > offset_at(evidence.seam, place):
                yield f"{place.topic}/{place.partition}: {one}"


def seam_past_the_log(evidence: Evidence) -> Iterator[str]:
    for place, end in evidence.ends.items():
        if offset_at(evidence.seam, place) > end:
            yield f"{place.topic}/{place.partition}: {offset_at(evidence.seam, place)} of {end}"


def offsets_went_back(evidence: Evidence) -> Iterator[str]:
    for before, after in pairwise(evidence.snapshots):
        for topic, places in before.seam.items():
            for partition, offset in places.items():
                later = offset_at(after.seam, TopicPartition(topic, partition))
                if later < offset:
                    yield f"{topic}/{partition}: {offset} to {later} at {after.snapshot_id}"


def snapshots_unsorted(evidence: Evidence) -> Iterator[str]:
    """Tell of K2's alone: PyIceberg takes its own clock, wherever a writer's clock had been."""
    for before, after in pairwise(evidence.snapshots):
        if after.timestamp_ms <= before.timestamp_ms and not after.foreign:
            yield f"{after.snapshot_id} at {after.timestamp_ms} after {before.timestamp_ms}"


def files_missing(evidence: Evidence) -> Iterator[str]:
    yield from evidence.files_missing


CHECKS: Mapping[str, Callable[[Evidence], Iterator[str]]] = {
    "the ledger's ids are not those of the rows": coverage_is_wrong,
    "the ledger speaks of positions past the seam": books_past_the_seam,
    "the seam is past the end of the log": seam_past_the_log,
    "offsets went back": offsets_went_back,
    "the log of snapshots is not sorted": snapshots_unsorted,
    "a file of a kept snapshot is gone": files_missing,
}
