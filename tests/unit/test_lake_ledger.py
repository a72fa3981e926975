"""What commits of each kind do to the ledger, and where it is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table.snapshots import Operation

from libs.lake.commits.commit import Kind, LakeFile, Overlap, Prepared
from libs.lake.commits.committer import Committer, Fenced, Landed, Patience
from libs.lake.commits.seam import OffsetRange, TopicPartition, offset_at, seam_of
from libs.lake.ledger.coverage import Coverage, Ids, Series
from libs.lake.ledger.ledger import Account, Dead, Hole, Ledger, Lost, Shed
from libs.lake.ledger.store import MissingLedgerError, files_of, ledger_location, read
from libs.lake.table.durable import local_path
from libs.lake.table.tables import TRADES
from libs.market.errors import InvalidError
from tests.support.lake import TOPIC, MemoryStore, foreign, made_up_file
from tests.support.storing import Storer, trades

BTC = Series("BINANCE", "CRYPTO", "BTCUSDT", 0)
P0, P1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    return MemoryStore(tmp_path)


@pytest.fixture
def committer(store: MemoryStore) -> Committer:
    return Committer(store, TRADES, patience=Patience(give_up_after_s=5, sleep=lambda _s: None))


def ledger_of(store: MemoryStore) -> Ledger:
    return read(PyArrowFileIO(), ledger_location(store.metadata))


def ids(first: int, last: int) -> Coverage:
    return {BTC: (Ids(first, last, first, last),)}


def file(at: TopicPartition, start: int, end: int, claims: Coverage) -> LakeFile:
    return replace(made_up_file(at.partition, start, end - 1), claims=claims)


def shed(start: int, end: int, symbol: str = "B", policy: str = "v1") -> Shed:
    return Shed(start, end, ("LOW",), policy, (symbol,), end - start, 1)


def put_off(committer: Committer, *ranges: Shed) -> None:
    """Commit batches of which all was shed."""
    for one in ranges:
        committer.commit(
            Prepared(
                f"shed-{one.start}",
                {P0: OffsetRange(one.start, one.end)},
                accounts={P0: Account(shed=(one,))},
            )
        )


def backfill(start: int, end: int, commit_id: str = "backfill", first_id: int = 1) -> Prepared:
    claims = ids(first_id, first_id + end - start - 1)
    return Prepared(
        commit_id,
        {P0: OffsetRange(start, end)},
        (file(P0, start, end, claims),),
        kind=Kind.BACKFILL,
    )


def test_shed_ranges_of_one_policy_are_one(store: MemoryStore, committer: Committer) -> None:
    """Neighbours join, their symbols too; another policy's stay by themselves."""
    put_off(committer, shed(0, 5, "B"), shed(5, 7, "A"), shed(7, 9, "A", "v2"))
    assert ledger_of(store).book(P0).shed == (
        Shed(0, 7, ("LOW",), "v1", ("A", "B"), 7, 1),
        shed(7, 9, "A", "v2"),
    )


def test_backfill_closes_its_range_and_leaves_the_seam(
    store: MemoryStore, committer: Committer
) -> None:
    """From the middle of one range into the next; what is left stays open."""
    put_off(committer, shed(0, 5), shed(5, 9, "A", "v2"))
    landed = committer.commit(backfill(2, 7))
    assert isinstance(landed, Landed)
    assert offset_at(landed.seam, P0) == offset_at(seam_of(store.metadata), P0) == 9
    book = ledger_of(store).book(P0)
    assert [(one.start, one.end) for one in book.shed] == [(0, 2), (7, 9)]
    assert ledger_of(store).coverage == ids(1, 5)


@pytest.mark.parametrize("extent", [(2, 7), (0, 3), (6, 7), (6, 8), (6, 12)])
def test_backfill_of_what_is_not_open_is_fenced(
    store: MemoryStore, committer: Committer, extent: tuple[int, int]
) -> None:
    """Two backfillers, one of them asleep: nothing of a range that is closed goes in again."""
    put_off(committer, shed(0, 10))
    committer.commit(backfill(2, 7))
    again = committer.commit(backfill(*extent, commit_id="again", first_id=50))
    assert again == Fenced({P0: 10})
    assert len(store.live_files()) == 1


def test_shed_range_that_expired_becomes_lost(store: MemoryStore, committer: Committer) -> None:
    """Only the symbols that were shed are lost; the seam stays."""
    put_off(committer, shed(0, 5), shed(5, 9, "A", "v2"))
    lost = Prepared("lost", {P0: OffsetRange(3, 7)}, kind=Kind.LOST)
    assert isinstance(committer.commit(lost), Landed)
    book = ledger_of(store).book(P0)
    assert [(one.start, one.end) for one in book.shed] == [(0, 3), (7, 9)]
    assert [(one.start, one.end, one.symbols) for one in book.lost] == [
        (3, 5, ("B",)),
        (5, 7, ("A",)),
    ]
    assert offset_at(seam_of(store.metadata), P0) == 9


def test_loss_at_the_seam_is_in_the_ledger(store: MemoryStore, committer: Committer) -> None:
    """Every symbol of it; two in a row are one range."""
    for start, end in ((0, 5), (5, 9)):
        committer.commit(Prepared(f"{start}", {P0: OffsetRange(start, end)}, kind=Kind.LOST))
    (lost,) = ledger_of(store).book(P0).lost
    assert lost == Lost(0, 9, lost.at_us)


def test_dead_letters_are_in_the_ledger(store: MemoryStore, committer: Committer) -> None:
    """Those of a partition that was fenced are not: they come again."""
    committer.commit(Prepared("other", {P1: OffsetRange(0, 1)}))
    dead = Account(dead=(Dead(0, 2, "", "EMPTY", 1), Dead(2, 3, "", "EMPTY", 2)))
    both = {P0: OffsetRange(0, 3), P1: OffsetRange(0, 3)}
    landed = committer.commit(Prepared("dead", both, accounts={P0: dead, P1: dead}))
    assert isinstance(landed, Landed)
    assert ledger_of(store).book(P0).dead == (Dead(0, 3, "", "EMPTY", 1),)
    assert ledger_of(store).book(P1).dead == ()


def test_ids_that_the_head_holds_come_back(store: MemoryStore, committer: Committer) -> None:
    """And without them the same commit lands, under the same id."""
    committer.commit(Prepared("one", {P0: OffsetRange(0, 3)}, (file(P0, 0, 3, ids(5, 7)),)))
    late = Prepared("two", {P1: OffsetRange(0, 3)}, (file(P1, 0, 3, ids(7, 9)),))
    outcome = committer.commit(late)
    assert outcome == Overlap(late.files, ledger_of(store))
    without = replace(late, files=(file(P1, 1, 3, ids(8, 9)),))
    assert isinstance(committer.commit(without), Landed)
    assert ledger_of(store).coverage == ids(5, 9)


def test_one_id_in_two_files_of_a_commit_comes_back(committer: Committer) -> None:
    """The table is not asked to hold it twice."""
    files = (file(P0, 0, 3, ids(5, 7)), file(P1, 0, 3, ids(7, 9)))
    both = Prepared("one", {P0: OffsetRange(0, 3), P1: OffsetRange(0, 3)}, files)
    outcome = committer.commit(both)
    assert isinstance(outcome, Overlap)
    assert outcome.files == files[1:]


def test_what_leans_on_a_fenced_partition_is_fenced(
    store: MemoryStore, committer: Committer
) -> None:
    """Its duplicates were dropped for rows that are not committed: it is read again."""
    committer.commit(Prepared("other", {P0: OffsetRange(0, 1)}))
    buffer = Prepared(
        "leaning",
        {P0: OffsetRange(0, 3), P1: OffsetRange(0, 3)},
        leans={P1: frozenset({P0})},
    )
    assert committer.commit(buffer) == Fenced({P0: 1, P1: 0})


def test_what_leans_on_a_file_too_old_is_fenced_with_it(store: MemoryStore) -> None:
    """That file may count as an orphan by now, and no other holds the trade."""
    old = replace(file(P0, 0, 3, ids(5, 7)), written_us=1)
    buffer = Prepared(
        "leaning",
        {P0: OffsetRange(0, 3), P1: OffsetRange(0, 3)},
        files=(old,),
        leans={P1: frozenset({P0})},
    )
    assert Committer(store, TRADES).commit(buffer) == Fenced({P0: 0, P1: 0})


def test_hole_at_the_venue_is_declared_once(store: MemoryStore, committer: Committer) -> None:
    """Not of ids that are held; and of those that turn up it is a hole no more."""
    committer.commit(Prepared("one", {P0: OffsetRange(0, 3)}, (file(P0, 0, 3, ids(5, 7)),)))
    hole = Hole(8, 20, "halted", 1)
    declared = Prepared("hole", {}, kind=Kind.VENUE, holes={BTC: (hole,)})
    assert isinstance(committer.commit(declared), Landed)
    assert ledger_of(store).holes == {BTC: (hole,)}
    again = replace(declared, commit_id="again", holes={BTC: (Hole(8, 20, "asked again", 2),)})
    assert isinstance(committer.commit(again), Landed)
    assert ledger_of(store).holes == {BTC: (hole,)}
    wrong = replace(declared, commit_id="wrong", holes={BTC: (Hole(7, 9, "halted", 1),)})
    assert committer.commit(wrong) == Fenced({})
    committer.commit(Prepared("two", {P1: OffsetRange(0, 3)}, (file(P1, 0, 3, ids(10, 12)),)))
    assert ledger_of(store).holes == {BTC: (Hole(8, 9, "halted", 1), Hole(13, 20, "halted", 1))}
    with pytest.raises(InvalidError):
        Prepared("none", {}, kind=Kind.VENUE)


def test_ledger_is_beside_the_table_and_on_the_disk(
    store: MemoryStore, committer: Committer
) -> None:
    """Under the table's own id, where orphan removal by other tools does not look."""
    committer.commit(Prepared("one", {P0: OffsetRange(0, 3)}))
    location = ledger_location(store.metadata)
    assert location.startswith(f"{store.warehouse}/_k2/{store.metadata.table_uuid}/ledger-")
    assert not location.startswith(store.metadata.location)
    path = local_path(location)
    assert path is not None
    assert path.stat().st_size > 0
    assert files_of(ledger_of(store), location) == {location}


@pytest.mark.parametrize("damage", ["gone", "{", '{"version":99}'])
def test_missing_ledger_stops_the_writer(tmp_path: Path, damage: str) -> None:
    """It names the file and what to do; nothing is taken for an empty one."""
    store = MemoryStore(tmp_path)
    Committer(store, TRADES).commit(Prepared("one", {P0: OffsetRange(0, 3)}))
    path = local_path(ledger_location(store.metadata))
    assert path is not None
    elsewhere = path.with_name("moved.json")
    path.rename(elsewhere)
    if damage != "gone":
        elsewhere.write_text(damage)
    head = store.metadata.current_snapshot()
    assert head is not None
    assert head.summary is not None
    head.summary["k2.ledger"] = str(path if damage == "gone" else elsewhere)
    with pytest.raises(MissingLedgerError, match="restore the file"):
        Committer(store, TRADES).commit(Prepared("two", {P0: OffsetRange(3, 4)}))


def test_table_of_an_older_k2_gets_its_coverage_from_its_rows(tmp_path: Path) -> None:
    """Its first commit knows what is held, and what was recorded lost."""
    storer = Storer(tmp_path)
    storer.store(trades([1, 2, 3, None, 7]))
    table = storer.lake.load_table(TRADES)
    snapshot = table.metadata.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    snapshot.summary["k2.ledger"] = ""
    committer = Committer(storer.lake, TRADES)
    ledger = committer.ledger_of(table)
    assert [one[:2] for one in ledger.coverage[BTC]] == [(1, 3), (7, 7)]
    assert ledger.coverage == storer.index().ledger.coverage


def test_foreign_rewrite_inherits_the_ledger(store: MemoryStore, committer: Committer) -> None:
    """As it does the seam: the rows are the same."""
    committer.commit(Prepared("one", {P0: OffsetRange(0, 3)}, (file(P0, 0, 3, ids(5, 7)),)))
    location = ledger_location(store.metadata)
    foreign(store, Operation.REPLACE)
    assert ledger_location(store.metadata) == location
    later = Prepared("two", {P1: OffsetRange(0, 1)}, (file(P1, 0, 1, ids(7, 7)),))
    assert isinstance(committer.commit(later), Overlap)
