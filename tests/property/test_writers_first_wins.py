"""Writers that share a table: each trade once, each position accounted for, whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pyiceberg.io.pyarrow import PyArrowFileIO

from libs.lake.commits.commit import Kind, LakeFile, Overlap, Prepared
from libs.lake.commits.committer import Committer, Fenced, Landed, Patience
from libs.lake.commits.seam import OffsetRange, TopicPartition, offset_at, seam_of
from libs.lake.ledger.coverage import Coverage, Ids, Series, held_ids
from libs.lake.ledger.ledger import Account, Ledger, Shed
from libs.lake.ledger.store import ledger_location, read
from libs.lake.table.tables import TRADES
from libs.market.errors import ConflictError, UnavailableError
from tests.support.lake import TOPIC, Answer, MemoryStore, made_up_file

PARTITIONS = range(2)
WRITERS = range(2)
SYMBOLS = ("A", "B")
SERIES = {symbol: Series("BINANCE", "CRYPTO", symbol, 0) for symbol in SYMBOLS}

Trade = tuple[str, int]
lengths = st.dictionaries(st.sampled_from(PARTITIONS), st.integers(1, 6), min_size=1) | st.just(
    dict.fromkeys(PARTITIONS, 4)
)
nothing_wrong: list[Answer] = []
catalog_answers = st.just(nothing_wrong) | st.lists(st.sampled_from(Answer), max_size=3)


def trade_at(partition: int, offset: int) -> Trade:
    """Return the trade that a position holds: two feeds of one market, one of which repeats."""
    number = offset - (partition == 0 and offset % 4 == 3)
    return SYMBOLS[number % 2], number


def claims_of(partition: int, offsets: Iterable[int]) -> Coverage:
    claims: dict[Series, list[Ids]] = {}
    for symbol, number in sorted(trade_at(partition, offset) for offset in offsets):
        claims.setdefault(SERIES[symbol], []).append(Ids(number, number, number, number))
    return {series: tuple(some) for series, some in claims.items()}


def held_by(coverage: Coverage) -> set[Trade]:
    return {
        (series.symbol, number)
        for series, held in coverage.items()
        for ids in held
        for number in range(ids.first, ids.last + 1)
    }


def file_of(partition: int, offsets: list[int]) -> LakeFile:
    """Make up a file whose name tells which offsets it holds."""
    folder = "_".join(map(str, offsets))
    made = made_up_file(partition, offsets[0], offsets[-1], folder=folder)
    return replace(made, claims=claims_of(partition, offsets))


def positions_in(path: str) -> list[tuple[int, int]]:
    partition, listed = path.split("/")[-3:-1]
    return [(int(partition), int(offset)) for offset in listed.split("_")]


@dataclass
class Share:
    """A partition's share of a buffer: what is kept of it, and what became of the rest."""

    extent: OffsetRange
    kept: list[int]
    duplicates: dict[Series, int] = field(default_factory=dict)
    shed: tuple[Shed, ...] = ()
    leans: frozenset[TopicPartition] = frozenset()

    def drop(self, partition: int, held: set[Trade]) -> set[Trade]:
        """Drop what is held, or comes twice; return the trades left."""
        taken: set[Trade] = set()
        for offset in list(self.kept):
            trade = trade_at(partition, offset)
            if trade in held | taken:
                self.kept.remove(offset)
                series = SERIES[trade[0]]
                self.duplicates[series] = self.duplicates.get(series, 0) + 1
            taken.add(trade)
        return taken - held


@dataclass
class Buffer:
    commit_id: str
    kind: Kind
    shares: dict[int, Share]

    def prepared(self) -> Prepared:
        at = {p: TopicPartition(TOPIC, p) for p in self.shares}
        return Prepared(
            self.commit_id,
            {at[p]: share.extent for p, share in self.shares.items()},
            tuple(file_of(p, share.kept) for p, share in self.shares.items() if share.kept),
            kind=self.kind,
            accounts={
                at[p]: Account(shed=share.shed, duplicates=share.duplicates)
                for p, share in self.shares.items()
            },
            leans={at[p]: share.leans for p, share in self.shares.items()},
        )

    def sift(self, held: set[Trade]) -> None:
        """Drop what the table holds, then what a share before has."""
        others: dict[TopicPartition, set[Trade]] = {}
        for partition, share in self.shares.items():
            mine = {trade_at(partition, offset) for offset in share.kept}
            share.leans |= {at for at, trades in others.items() if trades & mine}
            before = set().union(*others.values())
            others[TopicPartition(TOPIC, partition)] = share.drop(partition, held | before)


@dataclass
class Writer:
    committer: Committer
    positions: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    buffer: Buffer | None = None
    backfill: Buffer | None = None


class WritersFirstWins(RuleBasedStateMachine):
    """Appends, sheds and backfills of two writers against a catalog that misbehaves."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="k2-first-wins-"))
        self.store = MemoryStore(self.folder)
        patience = Patience(give_up_after_s=0.2, sleep=lambda _s: None)
        self.writers = [Writer(Committer(self.store, TRADES, patience=patience)) for _ in WRITERS]
        self.numbers = itertools.count()
        self.held: set[Trade] = set()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def ledger(self) -> Ledger:
        return read(PyArrowFileIO(), ledger_location(self.store.metadata))

    @rule(who=st.sampled_from(WRITERS), counts=lengths, shed=st.booleans())
    def fetch(self, who: int, counts: Mapping[int, int], shed: bool) -> None:
        """Fill a buffer against the ledger as it is now; at shedding, B's trades wait."""
        writer = self.writers[who]
        if writer.buffer is not None:
            return
        shares = {
            partition: share_of(partition, writer.positions[partition], count, shed=shed)
            for partition, count in counts.items()
        }
        writer.buffer = Buffer(f"append-{next(self.numbers)}", Kind.APPEND, shares)
        writer.buffer.sift(held_by(self.ledger().coverage))

    @rule(who=st.sampled_from(WRITERS), data=st.data())
    def read_shed(self, who: int, data: st.DataObject) -> None:
        """Take up some of a range that was shed, and perhaps sleep on it."""
        ledger, writer = self.ledger(), self.writers[who]
        owed = [(at, shed) for at, book in ledger.partitions.items() for shed in book.shed]
        if not owed or writer.backfill is not None:
            return
        (_, partition), shed = data.draw(st.sampled_from(owed))
        start = data.draw(st.just(shed.start) | st.integers(shed.start, shed.end - 1))
        end = data.draw(st.just(shed.end) | st.integers(start + 1, shed.end))
        wanted = [o for o in range(start, end) if trade_at(partition, o)[0] in shed.symbols]
        share = Share(OffsetRange(start, end), wanted)
        number = next(self.numbers)
        writer.backfill = Buffer(f"backfill-{number}", Kind.BACKFILL, {partition: share})
        writer.backfill.sift(held_by(ledger.coverage))

    @rule(who=st.sampled_from(WRITERS), answers=catalog_answers)
    def commit(self, who: int, answers: list[Answer]) -> None:
        writer = self.writers[who]
        if writer.buffer is not None and (outcome := self.send(writer, writer.buffer, answers)):
            offsets = outcome.offsets if isinstance(outcome, Fenced) else outcome.fenced
            landed = {} if isinstance(outcome, Fenced) else outcome.ranges
            writer.positions |= {at.partition: extent.end for at, extent in landed.items()}
            writer.positions |= {at.partition: offset for at, offset in offsets.items()}
            writer.buffer = None

    @rule(who=st.sampled_from(WRITERS), answers=catalog_answers)
    def commit_backfill(self, who: int, answers: list[Answer]) -> None:
        writer = self.writers[who]
        if writer.backfill is not None and self.send(writer, writer.backfill, answers):
            writer.backfill = None

    def send(self, writer: Writer, buffer: Buffer, answers: list[Answer]) -> Landed | Fenced | None:
        """Commit, each time without what the table holds by then; None where it is not known."""
        self.store.answers.extend(answers)
        with contextlib.suppress(ConflictError, UnavailableError):
            while isinstance(outcome := writer.committer.commit(buffer.prepared()), Overlap):
                buffer.sift(held_by(outcome.ledger.coverage))
            self.store.answers.clear()
            return outcome
        self.store.answers.clear()
        return None

    @rule(who=st.sampled_from(WRITERS))
    def crash_and_restart(self, who: int) -> None:
        writer, seam = self.writers[who], seam_of(self.store.metadata)
        writer.buffer = writer.backfill = None
        writer.positions = {p: offset_at(seam, TopicPartition(TOPIC, p)) for p in PARTITIONS}

    @rule()
    def late_requests_arrive(self) -> None:
        self.store.land_late()

    @rule(keep=st.integers(1, 3))
    def expire(self, keep: int) -> None:
        self.store.expire(keep=keep)

    @invariant()
    def each_trade_is_stored_once_and_covered(self) -> None:
        if not hasattr(self, "store"):
            return
        stored = [trade_at(*position) for position in self.stored()]
        assert len(stored) == len(set(stored))
        coverage = self.ledger().coverage
        assert held_by(coverage) == set(stored)
        assert held_ids(coverage) == len(stored)
        assert self.held <= set(stored)
        self.held = set(stored)

    @invariant()
    def each_position_below_the_seam_is_one_thing(self) -> None:
        """Stored, or a duplicate of what is stored, or still shed."""
        if not hasattr(self, "store"):
            return
        seam, ledger, stored = seam_of(self.store.metadata), self.ledger(), set(self.stored())
        held, duplicates = {trade_at(*position) for position in stored}, 0
        for partition in PARTITIONS:
            at = TopicPartition(TOPIC, partition)
            shed = {
                (partition, offset)
                for one in ledger.book(at).shed
                for offset in range(one.start, one.end)
                if trade_at(partition, offset)[0] in one.symbols
            }
            assert not shed & stored
            below = {(partition, offset) for offset in range(offset_at(seam, at))}
            assert {position for position in stored | shed if position[0] == partition} <= below
            rest = below - shed - stored
            assert {trade_at(*position) for position in rest} <= held
            duplicates += len(rest)
        assert sum(ledger.duplicates.values()) == duplicates

    def stored(self) -> list[tuple[int, int]]:
        files = self.store.live_files()
        return [position for file in files for position in positions_in(file.file_path)]


def share_of(partition: int, start: int, count: int, *, shed: bool) -> Share:
    extent = OffsetRange(start, start + count)
    waits = [o for o in range(*extent) if shed and trade_at(partition, o)[0] == "B"]
    kept = [offset for offset in range(*extent) if offset not in waits]
    put_off = (Shed(*extent, ("LOW",), "v1", ("B",), len(waits), 1),) if waits else ()
    return Share(extent, kept, shed=put_off)


WritersFirstWins.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
)
TestWritersFirstWins = WritersFirstWins.TestCase
