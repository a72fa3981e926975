"""Columns that were added: in the tail, in the table, in both, and in answers of any kind."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2.query.v1 import query_pb2

from libs.lake.commits.patience import Patience
from libs.lake.files.index import SnapshotIndex, empty_index
from libs.lake.table.evolution import added_columns as columns_of_rows
from libs.lake.table.evolution import ensure_columns
from libs.lake.table.naming import fresh_columns
from libs.lake.table.tables import TRADES, TRADES_SCHEMA
from libs.market.errors import InvalidError
from libs.wire.promote import stacked
from libs.wire.schema import TEXTS, TRADE_SCHEMA
from services.query import answers
from services.query.added import added_columns, answered
from services.query.asked import ANSWER_COLUMNS, Order, Selection
from services.query.reading.engine import Engine
from services.query.reading.rows import Listing, first_rows
from services.query.requests import page_asked
from services.query.state import State
from services.query.tail.spill import on_disk
from services.query.tail.tail import Tail
from tests.support.query import history_in, tail_of, trade_rows

ALL = Listing(Selection(symbol="BTCUSDT"), (), Order.OLDEST_FIRST)
KINDS = {"": None, "int": pa.int32(), "long": pa.int64()}


def rows_with(start: int, end: int, kind: pa.DataType | None) -> pa.RecordBatch:
    """Make rows that have the column `hops`, its number the row's own, or do not."""
    batch = trade_rows("BTCUSDT", range(start, end))
    if kind is None:
        return batch
    values = pa.array(range(start, end), kind)
    return pa.RecordBatch.from_arrays(
        [*batch.columns, values], schema=TRADE_SCHEMA.append(pa.field("hops", kind))
    )


def state_of(*batches: pa.RecordBatch) -> State:
    with tempfile.TemporaryDirectory() as folder:
        return history_in(Path(folder)).state(tail_of(*batches))


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from(sorted(KINDS))), max_size=16), st.data()
)
def test_answers_do_not_depend_on_where_rows_are(
    pieces: list[tuple[int, str]], data: st.DataObject
) -> None:
    """Rows of old and new schemas, some committed, the others in the tail, merged and spilled."""
    batches: list[pa.RecordBatch] = []
    wanted: list[int | None] = []
    at = 0
    for rows, kind in pieces:
        batches.append(rows_with(at, at + rows, KINDS[kind]))
        wanted += list(range(at, at + rows)) if kind else [None] * rows
        at += rows
    committed = data.draw(st.integers(0, len(batches)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        history = history_in(folder)
        split = 0
        for batch in batches[:committed]:
            added = columns_of_rows(batch.schema)
            ensure_columns(history.lake, TRADES, added, patience=Patience())
            history.commit(stacked([batch]), {13: (split, split + batch.num_rows)})
            split += batch.num_rows
        tail = tail_of(*batches[committed:])
        tail = replace(tail, chunks=tuple(on_disk(chunk, folder) for chunk in tail.chunks))
        engine = Engine(threads=1, memory_limit_bytes=2**28, spill_dir=folder / "engine")
        state = history.state(tail)
        listing = answered(ALL, state)
        found = first_rows(state, listing, at + 1, engine.cursor())
        engine.close()
    assert found["kafka_offset"].to_pylist() == list(range(at))
    if any(kind for _, kind in pieces):
        assert found["hops"].to_pylist() == wanted
        kinds = {KINDS[kind] for _, kind in pieces if kind}
        assert found.schema.field("hops").type == (
            pa.int64() if pa.int64() in kinds else pa.int32()
        )
    else:
        assert found.schema.names == TRADE_SCHEMA.names


def test_the_tail_knows_a_column_before_the_table_does() -> None:
    """It is among all columns, may be asked for by name, and is gone with its rows."""
    old, new = state_of(rows_with(0, 5, None)), state_of(rows_with(0, 5, pa.int64()))
    assert answered(ALL, old).columns == ANSWER_COLUMNS
    assert answered(ALL, new).columns == (*ANSWER_COLUMNS, "hops")
    asked = Listing(Selection(), ("hops", "price"), Order.NEWEST_FIRST)
    assert answered(asked, new).columns == ("price", "hops")
    with pytest.raises(InvalidError, match=r"there is no column 'hops'; .*known are exchange, "):
        answered(asked, old)


def test_an_unknown_column_is_refused_with_a_hint() -> None:
    """Added columns are among those that may be meant."""
    state = state_of(rows_with(0, 2, pa.int64()))
    asked = Listing(Selection(), ("hop",), Order.NEWEST_FIRST)
    with pytest.raises(InvalidError, match=r"no column 'hop'; did you mean hops\?"):
        answered(asked, state)


def test_a_page_token_does_not_depend_on_what_columns_there_are() -> None:
    """All columns stay all columns, whatever was added; the order of names does not matter."""
    one, other = (
        page_asked(query_pb2.ListTradesRequest(columns=names)).query_hash
        for names in (["price", "symbol"], ["symbol", "price", "price"])
    )
    everything = page_asked(query_pb2.ListTradesRequest())
    assert one == other != everything.query_hash
    assert everything.listing.columns == ()


def test_a_message_has_added_columns_as_text() -> None:
    """Each type as people read it; a null has no entry."""
    columns = {
        "note": pa.array(["MAKER", None]),
        "raw": pa.array([b"\xff\x00", None]),
        "hidden": pa.array([True, False]),
        "fee_ticks": pa.array([2**62, None]),
        "score": pa.array([0.1, None]),
        "tags": pa.array([["a", 'b"'], []], TEXTS),
    }
    rows = pa.Table.from_batches([trade_rows("BTCUSDT", range(2))])
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    first, second = map(query_pb2.Trade.FromString, answers.trade_payloads(answers.with_all(rows)))
    assert dict(first.extra) == {
        "note": "MAKER",
        "raw": "/wA=",
        "hidden": "true",
        "fee_ticks": str(2**62),
        "score": "0.1",
        "tags": '["a","b\\""]',
    }
    assert dict(second.extra) == {"hidden": "false", "tags": "[]"}
    assert (first.symbol, second.trade_id) == ("BTCUSDT", "1")


def test_without_added_columns_nothing_is_extra() -> None:
    """A state of a table that nobody changed answers as ever."""
    state = State.of(empty(), Tail(), {})
    assert added_columns(state) == ()
    rows = pa.Table.from_batches([trade_rows("BTCUSDT", range(1))])
    (payload,) = answers.trade_payloads(answers.with_all(rows))
    assert not query_pb2.Trade.FromString(payload).extra


def empty() -> SnapshotIndex:
    return empty_index(fresh_columns(TRADES_SCHEMA))
