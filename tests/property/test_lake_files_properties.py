"""What goes into data files comes out of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table
from pyiceberg.types import StringType

from libs.lake.commits.commit import LakeFile
from libs.lake.files.arrange import arrange, dense
from libs.lake.files.datafile import write_trades
from libs.lake.files.layout import ROW_GROUP_ROWS, row_groups
from libs.lake.table.catalog import open_lake
from libs.lake.table.tables import TRADES_SPEC, bucket_of, ensure_trades
from libs.wire.schema import NUMBER, VENDOR_DATA, with_codes
from tests.support.trades import DAY_US, FIRST_DAY_US, trade_rows

decimal_texts = st.builds(
    lambda digits, scale: f"{Decimal(digits).scaleb(-scale):f}",
    st.integers(0, 10**16 - 1),
    st.integers(0, 12),
)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    folder = Path(tempfile.mkdtemp(prefix="k2-lake-"))
    lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
    yield ensure_trades(lake)
    lake.close()
    shutil.rmtree(folder)


@settings(max_examples=25, deadline=None)
@given(prices=st.lists(decimal_texts, min_size=1, max_size=20))
def test_decimal_text_survives_parquet(table: Table, prices: list[str]) -> None:
    """To the last digit, and the file's bounds with it."""
    price = pa.array(prices).cast(NUMBER)
    rows = trade_rows(len(prices), symbols=["BTCUSDT"], columns={"price": price})
    (file,) = write_trades(table, rows)
    found = pq.read_table(file.data_file.file_path.removeprefix("file://"), partitioning=None)
    by_offset = found.sort_by("kafka_offset")["price"].to_pylist()
    assert by_offset == [Decimal(text) for text in prices]
    field_id = table.schema().find_field("price").field_id
    low = int.from_bytes(file.data_file.lower_bounds[field_id], "big", signed=True)
    high = int.from_bytes(file.data_file.upper_bounds[field_id], "big", signed=True)
    assert Decimal(low).scaleb(-12) == min(by_offset)
    assert Decimal(high).scaleb(-12) == max(by_offset)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 200),
    symbols=st.lists(st.text("ABC", min_size=1, max_size=3), min_size=1, max_size=8, unique=True),
    entries=st.sampled_from([1, 2]),
    batches=st.integers(1, 3),
)
def test_coded_rows_are_stored_as_plain_ones_are(
    table: Table, count: int, symbols: list[str], entries: int, batches: int
) -> None:
    """Batches with values of their own; a row group holds the values of its own symbols alone.

    Groups are small, so that there are some, and each row comes back as it went in.
    """
    vendor = [[(f"k{at}", f"{row}") for at in range(entries)] for row in range(count)]
    columns = {"vendor_data": pa.array(vendor, VENDOR_DATA)}
    whole = trade_rows(count, symbols=symbols, columns=columns)
    whole = whole.take(pa.array(np.random.default_rng(count).permutation(count)))
    ends = [count * at // batches for at in range(batches + 1)]
    parts = [whole.slice(start, stop - start) for start, stop in pairwise(ends)]
    coded = pa.concat_tables([part.cast(with_codes(part.schema)) for part in parts])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("libs.lake.files.layout.SHARED_GROUP_ROWS", 16)
        stored = [stored_rows(file) for file in write_trades(table, whole)]
        files = write_trades(table, coded)
    assert [stored_rows(file) for file in files] == stored
    assert {placed_at(row): row for rows in stored for row in rows} == {
        placed_at(row): row for row in whole.to_pylist()
    }
    for file in files:
        found = pq.ParquetFile(path_of(file), read_dictionary=["symbol"])
        for group in range(found.num_row_groups):
            symbol = found.read_row_group(group)["symbol"].combine_chunks()
            assert set(symbol.dictionary.to_pylist()) == set(symbol.to_pylist())


def placed_at(row: dict[str, object]) -> tuple[object, object]:
    return row["kafka_partition"], row["kafka_offset"]


def path_of(file: LakeFile) -> str:
    return file.data_file.file_path.removeprefix("file://")


def stored_rows(file: LakeFile) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.ParquetFile(path_of(file)).read().to_pylist()
    return rows


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, 200),
    seed=st.integers(0, 1_000),
    symbols=st.lists(st.text("ABC", min_size=1, max_size=3), min_size=1, max_size=8, unique=True),
    days=st.integers(1, 3),
    coarse=st.booleans(),
    shuffled=st.booleans(),
)
def test_every_row_is_in_one_run_of_its_own_kind(
    count: int, seed: int, symbols: list[str], days: int, coarse: bool, shuffled: bool
) -> None:
    """Runs tile the sorted rows, each of one symbol, partition and day, in order of time."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, days * (4 if coarse else DAY_US), count))
    stamps = pa.array(times * (DAY_US // 4 if coarse else 1) + FIRST_DAY_US)
    rows = trade_rows(count, seed=seed, symbols=symbols, columns={"timestamp": stamps})
    rows = rows.take(pa.array(rng.permutation(count))) if shuffled else rows
    order, parts = arrange(rows)
    assert sorted(order.tolist()) == list(range(count))
    runs = [run for part in parts for run in part.runs]
    assert [run.start for run in runs] == [0, *(run.stop for run in runs)][:-1]
    assert runs[-1].stop == count
    columns = ["symbol", "timestamp", "kafka_offset", "kafka_topic", "kafka_partition"]
    ordered = rows.select(columns).take(pa.array(order)).to_pylist()
    for part in parts:
        mine = ordered[part.start : part.stop]
        keys = [(row["symbol"], row["timestamp"], row["kafka_offset"]) for row in mine]
        assert keys == sorted(keys)
        for run in part.runs:
            of_run = ordered[run.start : run.stop]
            kinds = {(row["symbol"], row["kafka_topic"], row["kafka_partition"]) for row in of_run}
            assert kinds == {(run.symbol, *part.position)}
            assert bucket_of(run.symbol) == part.bucket
        assert {int(row["timestamp"].timestamp()) // 86_400 for row in mine} == {part.day}
        bounds = list(row_groups(part))
        assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds)][:-1]
        assert bounds[-1][1] == part.stop - part.start
        assert all(stop - start <= ROW_GROUP_ROWS for start, stop in bounds)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(-5, 1 << 40)] * 3), min_size=1, max_size=30))
def test_dense_numbers_keep_the_order_of_their_keys(keys: list[tuple[int, int, int]]) -> None:
    """Equal keys have equal numbers, smaller keys smaller ones, however far apart."""
    columns = [np.array(column, dtype=np.int64) for column in zip(*keys, strict=True)]
    numbers = dense(columns).tolist()
    ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    assert numbers == [ranks[key] for key in keys]


@settings(deadline=None)
@given(st.text(min_size=1))
def test_bucket_is_icebergs(symbol: str) -> None:
    """The partition we write is the one other engines look in."""
    assert bucket_of(symbol) == TRADES_SPEC.fields[1].transform.transform(StringType())(symbol)
