"""Each trade is stored once, and what contradicts it is kept apart."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from libs.lake.commits.committer import Landed
from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.coverage import Ids, Series
from libs.wire.rejection import Reason
from services.writer.commits.storing import Written
from tests.support.lake import made_up_file
from tests.support.storing import SYMBOL, Storer, position_of, trades
from tests.support.trades import FIRST_DAY_US

BTC = Series("BINANCE", "CRYPTO", SYMBOL, 0)


@pytest.fixture
def storer(tmp_path: Path) -> Storer:
    return Storer(tmp_path)


def test_trade_sent_again_in_one_buffer_is_stored_once(storer: Storer) -> None:
    """The first by offset stays, with its own receive stamp; the others are counted."""
    rows = trades([1, 2, 1, 3, 2, 1])
    outcome, written = storer.store(rows)
    assert isinstance(outcome, Landed)
    assert storer.ids() == [1, 2, 3]
    assert written.duplicates == {BTC: 3}
    assert written.conflicts == ()
    stored = storer.rows().sort_by("source_sequence")
    assert stored["kafka_offset"].to_pylist() == [0, 1, 3]


def test_trade_sent_again_later_is_dropped_and_the_first_stays(storer: Storer) -> None:
    """Across commits too, and whatever the new one's receive stamp is."""
    storer.store(trades([1, 2, 3]))
    outcome, written = storer.store(trades([2, 3, 4], first_offset=3, received_us=5_000_000))
    assert isinstance(outcome, Landed)
    assert storer.ids() == [1, 2, 3, 4]
    assert written.duplicates == {BTC: 2}
    kept = storer.rows().sort_by("source_sequence")["ingest_timestamp"].cast(pa.int64())
    assert kept.to_pylist()[1] == FIRST_DAY_US + 1
    assert storer.index().ledger.duplicates == {BTC: 2}


def test_batch_of_nothing_but_duplicates_moves_the_seam(storer: Storer) -> None:
    """It has no files, but its positions are passed by."""
    storer.store(trades([1, 2]))
    outcome, written = storer.store(trades([2, 1], first_offset=2))
    assert isinstance(outcome, Landed)
    assert written.files == ()
    at = position_of(trades([1]))
    assert storer.index().seam == {at.topic: {at.partition: 4}}


def test_coverage_names_the_ids_and_the_holes_between(storer: Storer) -> None:
    """Rows without an id are stored every time and cover nothing."""
    storer.store(trades([1, 2, None, 5, 4]))
    storer.store(trades([None, 7], first_offset=5))
    assert storer.ids() == [1, 2, 4, 5, 7, None, None]
    second = 1_000_000
    assert storer.index().ledger.coverage == {
        BTC: (
            Ids(1, 2, FIRST_DAY_US + second, FIRST_DAY_US + 2 * second),
            Ids(4, 5, FIRST_DAY_US + 4 * second, FIRST_DAY_US + 5 * second),
            Ids(7, 7, FIRST_DAY_US + 7 * second, FIRST_DAY_US + 7 * second),
        )
    }


@pytest.mark.parametrize("apart", [False, True])
def test_other_price_under_a_held_id_is_a_conflict(storer: Storer, apart: bool) -> None:
    """The first stays; the second goes to the dead letters, and both are named there."""
    if apart:
        storer.store(trades([1, 2]))
        rows = trades([3, 2, 2], cents=[103, 777, 102], first_offset=2)
    else:
        rows = trades([3, 2, 2, 2], cents=[103, 102, 777, 102])
    outcome, written = storer.store(rows)
    assert isinstance(outcome, Landed)
    (conflict,) = written.conflicts
    bad = 3 if apart else 2
    assert (conflict.reason, conflict.offset) == (Reason.CONFLICT, bad)
    assert (conflict.symbol, conflict.raw) == (SYMBOL, f"raw {bad}".encode())
    assert "at 1.02" in conflict.detail
    assert "at 7.77" in conflict.detail
    assert written.duplicates == {BTC: 1}
    book = storer.index().ledger.book(position_of(rows))
    assert [(d.start, d.end, d.symbol, d.reason) for d in book.dead] == [
        (bad, bad + 1, SYMBOL, "CONFLICT")
    ]


def test_other_time_is_a_conflict_and_less_than_a_millisecond_is_not(storer: Storer) -> None:
    """Venues print milliseconds; what is finer may come and go."""
    storer.store(trades([1, 2]))
    again = trades([1, 2], first_offset=2)
    moved = pa.chunked_array([pa.array([FIRST_DAY_US + 1_000_999, FIRST_DAY_US + 86_400_000_000])])
    at = again.schema.get_field_index("timestamp")
    field = again.schema.field("timestamp")
    again = again.set_column(at, field, moved.cast(field.type))
    _, written = storer.store(again)
    assert written.duplicates == {BTC: 1}
    (conflict,) = written.conflicts
    assert conflict.offset == 3
    assert "is held: BUY" in conflict.detail


def test_trade_committed_by_another_meanwhile_is_dropped_at_the_commit(tmp_path: Path) -> None:
    """First committed wins: the file is written anew without it, under the same commit-id."""
    one, two = Storer(tmp_path), Storer(tmp_path)
    mine = trades([1, 2, 3, 9], partition=1)
    theirs = trades([2, 3, 4], partition=2)
    written = one.written(mine)
    two.store(theirs)
    outcome = one.commit(mine, written)
    assert isinstance(outcome, Landed)
    assert one.ids() == [1, 2, 3, 4, 9]
    assert outcome.ledger.duplicates == {BTC: 2}
    held = one.rows().sort_by("source_sequence")["kafka_partition"].to_pylist()
    assert held == [1, 2, 2, 2, 1]


def test_contradiction_committed_meanwhile_is_a_conflict(tmp_path: Path) -> None:
    """Also of rows that are in a file already."""
    one, two = Storer(tmp_path), Storer(tmp_path)
    mine = trades([1, 2], partition=1)
    written = one.written(mine)
    two.store(trades([2], partition=2, cents=[777]))
    outcome = one.commit(mine, written)
    assert isinstance(outcome, Landed)
    at = position_of(mine)
    assert [dead.reason for dead in outcome.ledger.book(at).dead] == ["CONFLICT"]
    assert one.ids() == [1, 2]


def test_duplicate_of_a_file_beside_leans_on_its_partition(storer: Storer) -> None:
    """What is dropped for another part's sake may not be committed without it."""
    first = trades([1, 2, 3], partition=1)
    files = storer.written(first).files
    second = trades([3, 4], partition=2)
    written = storer.table.write(second.to_batches(), files)
    assert written.leans == {position_of(first)}
    assert written.conflicts == ()
    assert written.duplicates == {BTC: 1}


def test_file_written_anew_leans_on_what_either_leaned_on() -> None:
    """Rows dropped in either turn are worth nothing without those that they were dropped for."""
    one, other = TopicPartition("trades", 1), TopicPartition("trades", 2)
    old, new = made_up_file(3, 0, 5), made_up_file(3, 0, 4)
    before = Written((old,), leans=frozenset({one}))
    after = before.with_file_replaced(old, Written((new,), leans=frozenset({other})))
    assert after.files == (new,)
    assert after.leans == {one, other}
