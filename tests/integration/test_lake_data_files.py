"""Data files: their partitions, order, encodings and statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.table import Table

from libs.lake.commits.commit import LakeFile
from libs.lake.files.datafile import write_trades
from libs.lake.files.index import SnapshotIndex
from libs.lake.files.layout import SHARED_GROUP_ROWS, STATISTICS_COLUMNS, UNCOMPRESSED_COLUMNS
from libs.lake.table.catalog import Lake
from libs.lake.table.tables import TRADES, TRADES_SCHEMA, bucket_of, ensure_trades
from tests.support.committing import commit_rows, open_here, ordered, scan
from tests.support.trades import DAY_US, trade_rows


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    opened = open_here(tmp_path)
    yield opened
    opened.close()


def stored_at(file: LakeFile) -> Path:
    return Path(file.data_file.file_path.removeprefix("file://"))


def test_files_hold_one_partition_day_and_bucket_each(lake: Lake) -> None:
    """So that a partition whose fence fails loses only its own files."""
    table = ensure_trades(lake)
    rows = trade_rows(2_000, spread_us=3 * DAY_US)
    seen = set()
    for file in write_trades(table, rows):
        found = pq.read_table(stored_at(file), partitioning=None)
        day, bucket = file.data_file.partition[0], file.data_file.partition[1]
        assert {bucket_of(symbol) for symbol in found["symbol"].to_pylist()} == {bucket}
        assert set(found["kafka_partition"].to_pylist()) == {file.position.partition}
        assert set((pc.cast(found["timestamp"], pa.int64()).to_numpy() // DAY_US).tolist()) == {day}
        assert pc.min_max(found["kafka_offset"]).as_py() == {
            "min": file.first_offset,
            "max": file.last_offset,
        }
        seen.add((day, bucket, file.position))
    assert len(seen) == len(write_trades(table, rows))


def test_rows_are_sorted_by_symbol_time_and_offset(lake: Lake) -> None:
    """Also when they come out of order."""
    table = ensure_trades(lake)
    rows = trade_rows(3_000)
    shuffled = rows.take(pa.array(np.random.default_rng(3).permutation(3_000)))
    for file in write_trades(table, shuffled):
        found = pq.read_table(stored_at(file), partitioning=None)
        keys = list(
            zip(
                *(found[name].to_pylist() for name in ("symbol", "timestamp", "kafka_offset")),
                strict=True,
            )
        )
        assert keys == sorted(keys)


def test_large_symbols_have_row_groups_of_their_own(lake: Lake) -> None:
    """A query for one symbol reads no other's pages; small ones share a group."""
    table = ensure_trades(lake)
    same_bucket = [f"S{n}" for n in range(2_000) if bucket_of(f"S{n}") == 3][:30]
    rows = pa.concat_tables(
        [
            trade_rows(40_000, symbols=["BTCUSDT", *same_bucket[:1]]),
            trade_rows(900, symbols=same_bucket[1:], first_offset=50_000),
        ]
    )
    for file in write_trades(table, rows):
        footer = pq.read_metadata(stored_at(file))
        at = footer.schema.to_arrow_schema().names.index("symbol")
        for group in map(footer.row_group, range(footer.num_row_groups)):
            bounds = group.column(at).statistics
            assert group.num_rows <= 16_384
            assert bounds.min == bounds.max or group.num_rows <= SHARED_GROUP_ROWS
    small = write_trades(table, trade_rows(900, symbols=same_bucket))
    assert len(small) == 1
    assert pq.read_metadata(stored_at(small[0])).num_row_groups == 1


def test_columns_are_encoded_for_their_content(lake: Lake) -> None:
    """The layout is worth as much as the engine; a new pyarrow must not change it in silence."""
    table = ensure_trades(lake)
    file = write_trades(table, trade_rows(500))[0]
    group = pq.read_metadata(stored_at(file)).row_group(0)
    chunks = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    for name in ("timestamp", "ingest_timestamp", "source_sequence", "kafka_offset"):
        assert "DELTA_BINARY_PACKED" in chunks[name].encodings
        assert not chunks[name].has_dictionary_page
    assert "DELTA_BYTE_ARRAY" in chunks["trade_id"].encodings
    assert all(chunks[name].has_dictionary_page for name in ("symbol", "side", "price", "quantity"))
    assert not chunks["notional"].has_dictionary_page
    plain = {name for name, chunk in chunks.items() if chunk.compression != "ZSTD"}
    assert plain == set(UNCOMPRESSED_COLUMNS)


def by_pyiceberg(table: Table, footer: pq.FileMetaData) -> dict[str, Any]:
    found: dict[str, Any] = data_file_statistics_from_parquet_metadata(
        footer,
        compute_statistics_plan(table.schema(), table.properties),
        parquet_path_to_id_mapping(table.schema()),
    ).to_serialized_dict()
    return found


def test_statistics_equal_those_pyiceberg_computes(lake: Lake, tmp_path: Path) -> None:
    """Ours come from the columns, PyIceberg's from the footer: of some columns in our file."""
    table = ensure_trades(lake)
    for file in write_trades(table, trade_rows(1_000)):
        ours = file.data_file
        theirs = by_pyiceberg(table, pq.read_metadata(stored_at(file)))
        pq.write_table(pq.ParquetFile(stored_at(file)).read(), tmp_path / "all.parquet")
        of_all = by_pyiceberg(table, pq.read_metadata(tmp_path / "all.parquet"))
        for name in ("record_count", "column_sizes", "value_counts", "split_offsets"):
            assert getattr(ours, name) == theirs[name]
        kept = {table.schema().find_field(name).field_id for name in STATISTICS_COLUMNS}
        for name in ("lower_bounds", "upper_bounds"):
            assert theirs[name].keys() == kept
            assert getattr(ours, name) == of_all[name]
        nulls = {key: of_all["null_value_counts"][key] for key in ours.null_value_counts}
        assert ours.null_value_counts == nulls
        assert ours.file_size_in_bytes == stored_at(file).stat().st_size


def test_field_ids_are_those_of_the_catalog(lake: Lake) -> None:
    """A column dropped and added again has another id than K2's own list says."""
    table = ensure_trades(lake)
    with table.update_schema() as change:
        change.delete_column("notional")
    with lake.load_table(TRADES).update_schema() as change:
        change.add_column("notional", TRADES_SCHEMA.find_type("notional"))
    table = ensure_trades(lake)
    field_id = table.schema().find_field("notional").field_id
    assert field_id != TRADES_SCHEMA.find_field("notional").field_id
    rows = trade_rows(100)
    commit_rows(lake, rows)
    path = SnapshotIndex.build(lake.load_table(TRADES)).files[0].path
    stored = pq.read_schema(path).field("notional")
    assert stored.metadata[b"PARQUET:field_id"] == str(field_id).encode()
    assert ordered(scan(lake.load_table(TRADES))) == ordered(rows)
