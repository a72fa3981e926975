"""Columns that another tool added or renamed: K2 goes on by field id, and keeps its own names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import StringType

from libs.lake.files.datafile import write_trades
from libs.lake.files.index import openable
from libs.lake.table.tables import TRADES_SCHEMA, ensure_trades
from libs.market.errors import ConfigError
from libs.wire.schema import TRADE_SCHEMA
from services.query.asked import ANSWER_COLUMNS, Order, Selection
from services.query.reading import sql
from services.query.reading.engine import Engine
from services.query.reading.rows import Listing, first_rows
from services.query.symbols import FileSymbols
from tests.support.query import History, history_in, trade_rows

ALL = Listing(Selection(symbol="BTCUSDT"), ANSWER_COLUMNS, Order.OLDEST_FIRST)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return history_in(tmp_path)


def answered(history: History, engine: Engine) -> pa.Table:
    return first_rows(history.state(), ALL, 1_000, engine.cursor())


def engine_at(folder: Path) -> Engine:
    return Engine(threads=1, memory_limit_bytes=2**29, spill_dir=folder / "spill")


def test_rows_are_read_and_written_on_after_a_rename(history: History, tmp_path: Path) -> None:
    """Files before and after hold the column under one field id; answers keep K2's name."""
    history.commit(trade_rows("BTCUSDT", range(50)), {13: (0, 50)})
    with history.reload().update_schema() as change:
        change.rename_column("price", "px")
    ensure_trades(history.lake)
    history.commit(trade_rows("BTCUSDT", range(50, 80)), {13: (50, 80)})
    found = answered(history, engine_at(tmp_path))
    wanted = trade_rows("BTCUSDT", range(80))
    assert found.schema.names == TRADE_SCHEMA.names
    assert found.select(TRADE_SCHEMA.names).equals(pa.Table.from_batches([wanted]))
    theirs = history.reload().scan().to_arrow().sort_by("kafka_offset")
    assert theirs["px"].to_pylist() == wanted["price"].to_pylist()


def test_another_tools_file_is_read_by_its_field_ids(history: History, tmp_path: Path) -> None:
    """PyIceberg writes its files with the names of today: a rename makes them differ from K2's."""
    history.commit(trade_rows("BTCUSDT", range(50)), {13: (0, 50)})
    with history.reload().update_schema() as change:
        change.rename_column("symbol", "ticker")
    before = history.index()
    history.reload().overwrite(history.reload().scan().to_arrow())  # no seam: not K2's to answer
    theirs = [
        replace(before.files[0], path=openable(task.file.file_path))
        for task in history.reload().scan().plan_files()
    ]
    assert pq.read_schema(theirs[0].path).get_field_index("ticker") >= 0
    source = sql.files_source(theirs, TRADE_SCHEMA.names, before.columns)
    found = engine_at(tmp_path).cursor().read(f"SELECT * FROM {source} ORDER BY kafka_offset")
    assert found["symbol"].to_pylist() == ["BTCUSDT"] * 50
    assert found["price"].to_pylist() == trade_rows("BTCUSDT", range(50))["price"].to_pylist()


def test_a_column_of_another_tool_is_left_alone(history: History, tmp_path: Path) -> None:
    """It is null in K2's files, not in K2's answers, and in nobody's way."""
    history.commit(trade_rows("BTCUSDT", range(5)), {13: (0, 5)})
    with history.reload().update_schema() as change:
        change.add_column("desk", StringType())
    ensure_trades(history.lake)
    history.commit(trade_rows("BTCUSDT", range(5, 9)), {13: (5, 9)})
    found = answered(history, engine_at(tmp_path))
    assert found.num_rows == 9
    assert "desk" not in found.schema.names
    assert history.reload().scan().to_arrow()["desk"].null_count == 9


def test_symbols_are_counted_whatever_the_column_is_called(
    history: History, tmp_path: Path
) -> None:
    """File footers have the names of their writer."""
    history.commit(trade_rows("BTCUSDT", range(7)), {13: (0, 7)})
    with history.reload().update_schema() as change:
        change.rename_column("symbol", "ticker")
    history.commit(trade_rows("BTCUSDT", range(7, 9)), {13: (7, 9)})
    found = FileSymbols().of(history.state(), engine_at(tmp_path).cursor())
    assert [(name.symbol, activity.trades) for name, activity in found.items()] == [("BTCUSDT", 9)]


def test_a_dropped_column_is_refused_by_name(history: History) -> None:
    """K2 cannot write a trade without it, and says which it is."""
    with history.reload().update_schema() as change:
        change.delete_column("trade_id")
    with pytest.raises(ConfigError, match="column trade_id is missing, expected string"):
        write_trades(history.reload(), trade_rows("BTCUSDT", range(5)))
    assert TRADES_SCHEMA.find_field("trade_id").required
