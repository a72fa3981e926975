"""Columns that rows have and the table does not: added once, by a commit of their own."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import DoubleType, LongType, StringType

from libs.lake.commits.patience import Patience
from libs.lake.commits.seam import seam_of
from libs.lake.table.catalog import open_lake
from libs.lake.table.evolution import ensure_columns, plan_columns
from libs.lake.table.naming import COLUMNS_KEY, decode_ids
from libs.lake.table.tables import TRADES, TRADES_SCHEMA, trades_columns
from libs.market.errors import ConfigError, CorruptError
from libs.wire.schema import TEXTS
from services.query.added import answered
from services.query.asked import Order, Selection
from services.query.reading import sql
from services.query.reading.engine import Engine
from services.query.reading.rows import Listing, file_rows, first_rows
from services.query.state import State
from tests.support.clock import ManualClock
from tests.support.lake import Answer, MemoryStore
from tests.support.maintenance import Kept
from tests.support.query import History, history_in, trade_rows

LIQUIDITY = pa.field("liquidity", pa.string())
HOPS = pa.field("hops", pa.int32())
PATIENT = Patience(give_up_after_s=10, sleep=lambda _: None)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return history_in(tmp_path)


def names(history: History) -> list[str]:
    return [field.name for field in history.reload().schema().fields]


def test_a_column_is_added_by_a_commit_without_a_snapshot(history: History) -> None:
    """Offsets and all else that the head says stays as it was."""
    history.commit(trade_rows("BTCUSDT", range(5)), {13: (0, 5)})
    before = history.reload().metadata
    table = ensure_columns(history.lake, TRADES, [LIQUIDITY, HOPS], patience=PATIENT)
    assert table.metadata.snapshots == before.snapshots
    assert seam_of(table.metadata) == seam_of(before)
    added = [table.schema().find_field(name) for name in ("liquidity", "hops")]
    assert [field.field_id for field in added] == [before.last_column_id + n for n in (1, 2)]
    assert not any(field.required for field in added)
    assert decode_ids(table.properties[COLUMNS_KEY]) == {
        field.name: field.field_id for field in table.schema().fields
    }
    again = ensure_columns(history.lake, TRADES, [LIQUIDITY], patience=PATIENT)
    assert again.metadata_location == table.metadata_location


def test_two_writers_at_once_add_it_once(history: History) -> None:
    """The one that loses the race finds the column there."""
    folder, met = history.folder, threading.Barrier(4)
    found = []

    def write() -> None:
        lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
        met.wait()
        table = ensure_columns(lake, TRADES, [LIQUIDITY, HOPS], patience=Patience())
        found.append(trades_columns(table.metadata).schema.find_field("hops").field_id)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(history.reload().metadata.schemas) == 2
    assert names(history).count("liquidity") == 1


@pytest.mark.parametrize("answer", [answer for answer in Answer if answer is not Answer.LAND])
def test_whatever_the_catalog_answers_it_is_there_once(tmp_path: Path, answer: Answer) -> None:
    """A conflict, an echo, an unknown outcome: the table is asked again."""
    store = MemoryStore(tmp_path)
    store.answers.extend([answer, answer])
    table = ensure_columns(store, TRADES, [LIQUIDITY], patience=PATIENT)
    assert [field.name for field in table.schema().fields].count("liquidity") == 1
    assert len(store.metadata.schemas) == 2
    ensure_columns(store, TRADES, [HOPS], patience=PATIENT)
    assert decode_ids(store.metadata.properties[COLUMNS_KEY])["hops"] == 24


def test_old_and_new_files_are_read_alike_by_pyiceberg_and_duckdb(
    history: History, tmp_path: Path
) -> None:
    """Rows of files from before are null; each of Protobuf's types comes back as it went in."""
    columns = {
        "liquidity": pa.array(["MAKER", None, "T" * 40]),
        "raw": pa.array([b"\xff\x00", None, b""]),
        "hidden": pa.array([True, None, False]),
        "hops": pa.array([1, None, -7], pa.int32()),
        "fee_ticks": pa.array([2**62, None, 0]),
        "score": pa.array([0.5, None, float("nan")]),
        "order": pa.array([["a", "b"], None, []], TEXTS),
    }
    history.commit(trade_rows("BTCUSDT", range(4)), {13: (0, 4)})
    rows = pa.Table.from_batches([trade_rows("BTCUSDT", range(4, 7))])
    for name, values in columns.items():
        rows = rows.append_column(pa.field(name, values.type), values)
    ensure_columns(history.lake, TRADES, [rows.field(name) for name in columns], patience=PATIENT)
    history.commit(rows, {13: (4, 7)})
    theirs = history.reload().scan().to_arrow().sort_by("kafka_offset")
    ours = duckdb_rows(history, tmp_path, tuple(columns)).sort_by("kafka_offset")
    for name, values in columns.items():
        expected = [None] * 4 + values.to_pylist()
        assert str(theirs[name].to_pylist()) == str(expected), name
        assert str(ours[name].to_pylist()) == str(expected), name
    newest = max(history.index().files, key=lambda file: file.offset_max)
    stored = pq.read_schema(newest.path)
    for name in columns:
        field_id = history.reload().schema().find_field(name).field_id
        assert stored.field(name).metadata[b"PARQUET:field_id"] == str(field_id).encode()


def duckdb_rows(history: History, folder: Path, columns: tuple[str, ...]) -> pa.Table:
    engine = Engine(threads=1, memory_limit_bytes=2**29, spill_dir=folder / "spill")
    asked = Listing(Selection(symbol="BTCUSDT"), columns, Order.OLDEST_FIRST)
    state = history.state()
    return file_rows(state, answered(asked, state), state.index.files, engine.cursor())


def test_an_integer_column_grows_wider(history: History) -> None:
    """Iceberg takes int to long; older files are read as the wider, narrow rows written as it."""
    ensure_columns(history.lake, TRADES, [HOPS], patience=PATIENT)
    wide = pa.field("hops", pa.int64())
    table = ensure_columns(history.lake, TRADES, [wide], patience=PATIENT)
    assert table.schema().find_field("hops").field_type == LongType()
    assert plan_columns(table.metadata, [HOPS]) is None
    rows = pa.Table.from_batches([trade_rows("BTCUSDT", range(2))])
    history.commit(rows.append_column(HOPS, pa.array([1, 2], pa.int32())), {13: (0, 2)})
    assert history.reload().scan().to_arrow()["hops"].to_pylist() == [1, 2]


def test_a_column_that_somebody_made_for_it_is_taken(history: History) -> None:
    """Of the same name and type, and not required: it becomes K2's."""
    with history.reload().update_schema() as change:
        change.add_column("liquidity", StringType())
    theirs = history.reload().schema().find_field("liquidity").field_id
    table = ensure_columns(history.lake, TRADES, [LIQUIDITY], patience=PATIENT)
    assert decode_ids(table.properties[COLUMNS_KEY])["liquidity"] == theirs
    assert len(table.metadata.schemas) == 2


def test_a_name_that_is_taken_does_not_stop_the_writer(history: History) -> None:
    """The table's column gets another name; K2 keeps its own, by the field id."""
    with history.reload().update_schema() as change:
        change.add_column("Liquidity", DoubleType())
    table = ensure_columns(history.lake, TRADES, [LIQUIDITY], patience=PATIENT)
    assert names(history)[-2:] == ["Liquidity", "liquidity_k2_2"]
    assert trades_columns(table.metadata).schema.find_field("liquidity").field_type == StringType()


def test_a_renamed_column_is_still_the_same(history: History) -> None:
    """The field id says so, and nothing is added."""
    ensure_columns(history.lake, TRADES, [LIQUIDITY], patience=PATIENT)
    with history.reload().update_schema() as change:
        change.rename_column("liquidity", "maker_or_taker")
    table = ensure_columns(history.lake, TRADES, [LIQUIDITY], patience=PATIENT)
    assert names(history)[-1] == "maker_or_taker"
    assert len(table.schema().fields) == len(TRADES_SCHEMA.fields) + 1


def test_a_dropped_column_is_added_again(history: History) -> None:
    """Under an id of its own: what was dropped does not come back to life."""
    first = ensure_columns(history.lake, TRADES, [LIQUIDITY], patience=PATIENT)
    with history.reload().update_schema() as change:
        change.delete_column("liquidity")
    second = ensure_columns(history.lake, TRADES, [LIQUIDITY], patience=PATIENT)
    ids = [table.schema().find_field("liquidity").field_id for table in (first, second)]
    assert ids[0] < ids[1]


def test_a_type_that_does_not_hold_it_is_named(history: History) -> None:
    """Text cannot go into a number's column; the remedy is said."""
    ensure_columns(history.lake, TRADES, [HOPS], patience=PATIENT)
    with pytest.raises(ConfigError, match="column hops of the table is int, and hops of the trad"):
        ensure_columns(history.lake, TRADES, [pa.field("hops", pa.string())], patience=PATIENT)


def test_old_and_new_files_are_compacted_into_one(history: History, tmp_path: Path) -> None:
    """By field id, null where a file is older, under a rename of another tool too."""
    evolved(history)
    with history.reload().update_schema() as change:
        change.rename_column("liquidity", "maker_or_taker")
    kept = Kept(history, ManualClock())
    (done,) = kept.compact()
    assert done.files == 1
    found = duckdb_rows(history, tmp_path, ("liquidity",)).sort_by("kafka_offset")
    assert found["liquidity"].to_pylist() == [None] * 4 + ["MAKER", None, "TAKER"]
    assert kept.rows().sort_by("kafka_offset")["maker_or_taker"].equals(found["liquidity"])


def evolved(history: History) -> None:
    """Commit rows of an old schema, then of a new one."""
    history.commit(trade_rows("BTCUSDT", range(4)), {13: (0, 4)})
    ensure_columns(history.lake, TRADES, [LIQUIDITY], patience=PATIENT)
    rows = pa.Table.from_batches([trade_rows("BTCUSDT", range(4, 7))])
    values = pa.array(["MAKER", None, "TAKER"])
    history.commit(rows.append_column(LIQUIDITY, values), {13: (4, 7)})


def test_an_older_snapshot_has_the_column_as_nulls(history: History, tmp_path: Path) -> None:
    """Answers of all times have the same columns, those of today."""
    evolved(history)
    first = min(history.reload().metadata.snapshots, key=lambda found: found.timestamp_ms)
    state = State.at_snapshot(history.index(first.snapshot_id), {})
    listing = answered(Listing(Selection(symbol="BTCUSDT"), (), Order.OLDEST_FIRST), state)
    engine = Engine(threads=1, memory_limit_bytes=2**29, spill_dir=tmp_path / "spill")
    found = first_rows(state, listing, 100, engine.cursor())
    assert found["kafka_offset"].to_pylist() == list(range(4))
    assert found["liquidity"].to_pylist() == [None] * 4


def test_a_question_reads_by_name_where_files_have_what_it_asks(history: History) -> None:
    """By field id takes half as long again: only where files differ in the columns asked."""
    evolved(history)
    index = history.index()
    old, new = sorted(index.files, key=lambda file: file.offset_min)
    names, everything = ("symbol", "price"), ("symbol", "liquidity")
    assert "schema = MAP" not in sql.files_source([old, new], names, index.columns)
    assert "schema = MAP" not in sql.files_source([new], everything, index.columns)
    assert "schema = MAP" in sql.files_source([old, new], everything, index.columns)
    with history.reload().update_schema() as change:
        change.rename_column("price", "px")
    assert "schema = MAP" in sql.files_source([new], names, history.index().columns)


def test_a_damaged_property_is_one_sentence(history: History) -> None:
    """It is named, and so is the remedy."""
    with history.reload().transaction() as change:
        change.set_properties({COLUMNS_KEY: "{half"})
    with pytest.raises(CorruptError, match=r"the table's property k2\.columns is damaged: set it"):
        ensure_columns(history.lake, TRADES, [LIQUIDITY], patience=PATIENT)
