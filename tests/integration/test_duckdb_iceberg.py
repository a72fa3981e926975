"""DuckDB's own Iceberg reader sees in K2's table what PyIceberg sees."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from libs.lake.commits.patience import Patience
from libs.lake.maintenance.content import content_of
from libs.lake.table.evolution import ensure_columns
from libs.lake.table.tables import TRADES
from tests.support import foreign
from tests.support.duckdb.reader import DuckDbIceberg, installed
from tests.support.maintenance import Kept, kept_in


@pytest.fixture(scope="module")
def duckdb_iceberg() -> DuckDbIceberg:
    return installed()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    made = kept_in(tmp_path)
    made.append(commits=9)
    return made


def assert_read_alike(duckdb_iceberg: DuckDbIceberg, kept: Kept, folder: Path) -> None:
    rows = kept.rows()
    read = duckdb_iceberg.rows(kept.table.metadata_location, folder / "answer.parquet")
    assert read.column_names == rows.column_names
    assert content_of(read.cast(rows.schema)) == content_of(rows)


def test_appends_are_read(duckdb_iceberg: DuckDbIceberg, kept: Kept, tmp_path: Path) -> None:
    """Every row and digit of nine commits."""
    assert kept.rows().num_rows == 360
    assert_read_alike(duckdb_iceberg, kept, tmp_path)


def test_a_compacted_table_is_read(
    duckdb_iceberg: DuckDbIceberg, kept: Kept, tmp_path: Path
) -> None:
    """Compaction, expiry and appends after it."""
    assert kept.compact()
    kept.append(commits=2)
    kept.sweep()
    assert_read_alike(duckdb_iceberg, kept, tmp_path)


def test_an_added_column_is_read(duckdb_iceberg: DuckDbIceberg, kept: Kept, tmp_path: Path) -> None:
    """Files from before it are read as null."""
    ensure_columns(
        kept.history.lake, TRADES, [pa.field("liquidity", pa.string())], patience=Patience()
    )
    kept.append()
    assert kept.rows()["liquidity"].null_count == 400
    assert_read_alike(duckdb_iceberg, kept, tmp_path)


def test_a_foreign_append_is_read(
    duckdb_iceberg: DuckDbIceberg, kept: Kept, tmp_path: Path
) -> None:
    """What another tool appended is in the table, whatever K2's writer thinks of it."""
    foreign.append(kept.table, 50)
    assert kept.rows().num_rows == 410
    assert_read_alike(duckdb_iceberg, kept, tmp_path)
