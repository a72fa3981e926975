"""Rows sent again and rows put off: what the tail leaves out, keeps and lets go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from prometheus_client import REGISTRY

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.seam import TopicPartition
from libs.lake.completeness.scope import Scope
from libs.lake.files.index import index_of
from libs.lake.ledger.claims import claims_of
from libs.lake.ledger.ledger import Account, Ledger, Shed, closed, entered
from libs.lake.table.naming import fresh_columns
from libs.lake.table.tables import TRADES_SCHEMA
from services.query.asked import Selection
from services.query.completeness.certifying import Certifier
from services.query.keeper import Committed, Keeper, Read, ReadShed, after_growth
from services.query.state import Board, State
from services.query.tail.chunk import chunk_of
from services.query.tail.rows import rows_of
from services.query.tail.shed_reader import readable, waiting
from services.query.tail.spill import spilled
from services.query.tail.tail import lightened
from tests.support.clock import ManualClock
from tests.support.query import renumbered, trade_rows

AT = TopicPartition(TRADES_BINANCE, 1)


def ledger_of(shed: tuple[int, int] | None = None, stored: pa.RecordBatch | None = None) -> Ledger:
    """Return a ledger with rows of B shed in a range of offsets, and with the ids of rows."""
    ranges = (Shed(*shed, ("LOW",), "v1", ("B",), 1, 1),) if shed else ()
    claims = [claims_of(stored)] if stored is not None else []
    return entered(Ledger(), {AT: Account(shed=ranges)}, claims)


def snapshot(seam: int, ledger: Ledger) -> Committed:
    columns = fresh_columns(TRADES_SCHEMA)
    index = index_of(seam, columns, {TRADES_BINANCE: {1: seam}}, {})
    return Committed(replace(index, ledger=ledger), None)


def mixed(start: int, end: int) -> pa.RecordBatch:
    """Return rows of A at even offsets and of B at odd ones, ids as offsets."""
    own = ((symbol, range(start + (start + at) % 2, end, 2)) for at, symbol in enumerate("AB"))
    return pa.concat_batches([trade_rows(symbol, at, partition=1) for symbol, at in own])


def read(start: int, end: int) -> Read:
    chunk = chunk_of(TRADES_BINANCE, mixed(start, end))
    return Read(TRADES_BINANCE, chunk, {1: (start, end)}, {1: end})


def offsets(state: State, symbol: str = "") -> list[int]:
    batches = rows_of(state.tail, Selection(symbol=symbol), ("timestamp", "kafka_offset"))
    return sorted(at for batch in batches for at in batch["kafka_offset"].to_pylist())


def lacks(state: State) -> list[tuple[int, int, str]]:
    """Return the positions that an answer over everything lacks."""
    found = Certifier().verdict(state, Scope()).lacks
    return [(*each.offsets, each.why.value) for each in found if each.offsets]


def after(*messages: Committed | Read | ReadShed) -> State:
    state: State | None = None
    for message in messages:
        state = after_growth(state, message)
    assert state is not None
    return state


def test_shed_rows_of_a_reader_behind_the_seam_are_held() -> None:
    """The writer was faster: what it shed comes in below the seam, and is kept all the same."""
    state = after(snapshot(10, ledger_of(shed=(0, 10))), read(0, 6), read(6, 14))
    assert offsets(state, "B") == [1, 3, 5, 7, 9, 11, 13]
    assert offsets(state, "A") == [10, 12]
    assert state.tail.kept == {TRADES_BINANCE: {1: ((0, 10),)}}
    assert lacks(state) == []


def test_until_they_are_read_back_shed_rows_are_lacking() -> None:
    """Each part that is here is no longer named."""
    state = after(snapshot(10, ledger_of(shed=(2, 10))))
    assert lacks(state) == [(2, 10, "SHED")]
    [stretch] = waiting(state, {})
    assert (*stretch.partition, stretch.start, stretch.end) == (*AT, 2, 10)
    assert stretch.keys == {b"B"}
    assert not list(waiting(state, {AT: ((0, 10),)}))
    chunk = chunk_of(TRADES_BINANCE, mixed(2, 7))
    state = after_growth(state, ReadShed(TRADES_BINANCE, chunk, {1: (2, 7)}))
    assert lacks(state) == [(7, 10, "SHED")]
    assert offsets(state) == [3, 5]


def test_of_a_log_that_may_be_another_one_nothing_is_read_back() -> None:
    """Its records would be shown as the table's own."""
    state = after(snapshot(10, ledger_of(shed=(2, 10))))
    assert not list(readable(state, {}))
    state = after_growth(state, Read(TRADES_BINANCE, None, {1: (10, 10)}, {1: 10}))
    assert len(list(readable(state, {}))) == 1
    refused = state.refusing(frozenset({AT}), state.tail)
    assert not list(readable(refused, {}))


def test_rows_go_when_their_range_is_closed() -> None:
    """A part of it leaves the rest as it is."""
    before = ledger_of(shed=(0, 10))
    state = after(snapshot(0, Ledger()), read(0, 12), snapshot(10, before))
    assert offsets(state) == [1, 3, 5, 7, 9, 10, 11]
    state = after_growth(state, snapshot(11, closed(before, AT, 0, 4)))
    assert offsets(state) == [5, 7, 9, 11]
    assert state.tail.kept == {TRADES_BINANCE: {1: ((4, 10),)}}


def test_a_row_whose_id_was_brought_in_otherwise_goes() -> None:
    """An import stores what the tail has still to see committed, and what is held."""
    imported = trade_rows("B", [3, 11], topic="import:1", partition=0)
    state = after(snapshot(0, Ledger()), read(0, 14), snapshot(10, ledger_of(shed=(0, 10))))
    state = after_growth(state, snapshot(10, ledger_of(shed=(0, 10), stored=imported)))
    assert offsets(state, "B") == [1, 5, 7, 9, 13]


def test_a_row_put_aside_comes_back_where_the_first_is_lost() -> None:
    """The snapshot passed the first one by and does not hold its id."""
    again = renumbered(trade_rows("A", [6], partition=1), [2])
    sent_again = Read(TRADES_BINANCE, chunk_of(TRADES_BINANCE, again), {1: (6, 7)}, {1: 7})
    state = after(snapshot(0, Ledger()), read(0, 6), sent_again)
    assert offsets(state, "A") == [0, 2, 4]
    stored = after_growth(state, snapshot(3, ledger_of(stored=mixed(0, 3))))
    assert offsets(stored, "A") == [4]
    lost = after_growth(state, snapshot(3, ledger_of(stored=mixed(0, 2))))
    assert offsets(lost, "A") == [4, 6]


def test_of_rows_in_one_fetch_the_first_on_the_log_wins() -> None:
    """Whatever their trade times say."""
    twice = renumbered(
        trade_rows("A", [0, 1, 2], times_us=[9_000_000, 1_000_000, 5_000_000], partition=1),
        [7, 7, None],
    )
    fetched = Read(TRADES_BINANCE, chunk_of(TRADES_BINANCE, twice), {1: (0, 3)}, {1: 3})
    assert offsets(after(snapshot(0, Ledger()), fetched)) == [0, 2]


def test_held_rows_go_to_files_before_others_and_are_answered_from_there(tmp_path: Path) -> None:
    """Under pressure of memory."""
    state = after(snapshot(0, Ledger()), read(0, 10_000))
    state = after_growth(state, snapshot(9_000, ledger_of(shed=(0, 9_000))))
    tail = spilled(state.tail, memory_bytes=600_000, folder=tmp_path)
    assert [chunk.on_disk for chunk in tail.held] == [True]
    assert not any(chunk.on_disk for chunk in tail.chunks)
    assert list(tmp_path.iterdir()) == []
    batches = rows_of(tail, Selection(symbol="B"), ("timestamp",))
    assert sum(batch.num_rows for batch in batches) == 5_000


def test_what_is_too_much_to_hold_is_let_go_and_named() -> None:
    """The oldest first; it is lacking then."""
    state = after(snapshot(0, Ledger()), read(0, 10), read(10, 20))
    state = after_growth(state, snapshot(10, ledger_of(shed=(0, 10))))
    state = after_growth(state, snapshot(20, ledger_of(shed=(0, 20))))
    assert len(state.tail.held) == 2
    held_bytes = state.tail.held[1].bytes
    state = state.grown(lightened(state.tail, state.seam, held_bytes=held_bytes), state.log_ends)
    assert offsets(state) == [11, 13, 15, 17, 19]
    assert lacks(state) == [(1, 10, "SHED")]


async def test_what_is_left_out_is_counted_by_symbol(tmp_path: Path) -> None:
    """Once for each row, commits or not."""
    keeper = Keeper(Board(), ManualClock(), memory_bytes=2**30, spill_dir=tmp_path)
    labels = {"exchange": "BINANCE", "symbol": "A"}
    before = counted(labels)
    try:
        await keeper.handle(snapshot(0, Ledger()))
        await keeper.handle(read(0, 6))
        again = renumbered(trade_rows("A", [6, 7], partition=1), [2, 4])
        chunk = chunk_of(TRADES_BINANCE, again)
        await keeper.handle(Read(TRADES_BINANCE, chunk, {1: (6, 8)}, {1: 8}))
        await keeper.handle(snapshot(3, ledger_of(stored=mixed(0, 3))))
    finally:
        keeper.release()
    assert counted(labels) - before == 2


def counted(labels: dict[str, str]) -> float:
    return REGISTRY.get_sample_value("k2_query_duplicate_rows_total", labels) or 0
