"""Compaction, purely: the proof sees every change, merging sorts, planning settles."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.lake.files.arrange import arrange
from libs.lake.files.index import FileEntry
from libs.lake.files.merging import Cursor, merged
from libs.lake.maintenance.compaction import (
    CompactionPolicy,
    Why,
    by_partition,
    day_is_over,
    plan_compaction,
    tier_of,
)
from libs.lake.maintenance.content import Content, content_of
from libs.market.errors import CorruptError
from libs.market.trade import DAY_US
from libs.wire.schema import TRADE_SCHEMA
from tests.support.trades import trade_rows

ROWS = trade_rows(64, symbols=("BTCUSDT", "ETHUSDT"))
POLICY = CompactionPolicy(target_bytes=1 << 20, merge_at=4, most_input_bytes=4 << 20)
DAY = 20_000


@given(st.permutations(range(64)), st.integers(0, 64))
def test_content_ignores_order_and_cuts(order: list[int], cut: int) -> None:
    """Whatever way rows are sorted and split, their content is the same."""
    shuffled = ROWS.take(pa.array(order))
    assert content_of(shuffled.slice(0, cut)) + content_of(shuffled.slice(cut)) == content_of(ROWS)


@pytest.mark.parametrize("column", TRADE_SCHEMA.names)
def test_content_sees_two_values_change_places(column: str) -> None:
    """Each row's values belong together: a swap inside any one column is seen."""
    values = ROWS[column].to_pylist()
    first, second = (
        next((0, at) for at in range(1, 64) if values[at] != values[0])
        if len({str(value) for value in values}) > 1
        else (0, 0)
    )
    if first == second:
        values[0] = other_value(values[0])
    else:
        values[first], values[second] = values[second], values[first]
    at = TRADE_SCHEMA.get_field_index(column)
    field = TRADE_SCHEMA.field(column)
    changed = ROWS.set_column(at, field, pa.array(values, field.type))
    assert content_of(changed) != content_of(ROWS)


def other_value(value: object) -> object:
    return value + 1 if isinstance(value, int) else f"{value}x"


def test_content_tells_null_from_zero_and_one_row_from_two() -> None:
    """Nulls, empty texts and repeated rows are no zeros."""
    zero, null = pa.table({"a": [0]}), pa.table({"a": pa.array([None], pa.int64())})
    assert content_of(zero) != content_of(null)
    assert content_of(pa.table({"a": [""]})) != content_of(
        pa.table({"a": pa.array([None], pa.string())})
    )
    twice = pa.concat_tables([ROWS, ROWS.slice(0, 1)])
    assert content_of(twice) != content_of(ROWS)
    assert content_of(ROWS.slice(0, 0)) == Content()


@given(st.lists(st.integers(0, 63), min_size=1, max_size=5), st.integers(1, 9))
def test_merging_sorted_files_is_sorting_all_rows(cuts: list[int], batch: int) -> None:
    """Any split into sorted files, read in batches of any size, merges to the one order."""
    edges = sorted({0, *cuts, 64})
    parts = [ROWS.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    files = [by_symbol(part) for part in parts]
    cursors = [Cursor(str(n), batches(file, batch)) for n, file in enumerate(files)]
    found = pa.concat_tables(list(merged(cursors)))
    assert found.to_pylist() == by_symbol(ROWS).to_pylist()


def by_symbol(rows: pa.Table) -> pa.Table:
    keys = [("symbol", "ascending"), ("timestamp", "ascending"), ("kafka_offset", "ascending")]
    return rows.sort_by(keys)


def batches(rows: pa.Table, size: int) -> Iterator[pa.Table]:
    return (rows.slice(at, size) for at in range(0, rows.num_rows, size))


def test_a_file_that_is_not_sorted_is_refused() -> None:
    """It would end in a file that claims to be sorted."""
    backwards = by_symbol(ROWS).take(pa.array(range(63, -1, -1)))
    with pytest.raises(CorruptError, match="not sorted"):
        list(merged([Cursor("a.parquet", batches(backwards, 7))]))


def test_files_of_the_writer_are_in_merging_order() -> None:
    """What `arrange` writes is what merging expects."""
    order, parts = arrange(ROWS)
    for part in parts:
        rows = ROWS.take(pa.array(order[part.start : part.stop]))
        assert next(iter(merged([Cursor("a", iter([rows]))]))).num_rows == rows.num_rows


def entry(number: int, size_bytes: int, *, day: int = DAY, partition: int = 3) -> FileEntry:
    return FileEntry(
        path=f"/{number}.parquet",
        day=day,
        bucket=partition,
        rows=size_bytes // 40 + 1,
        size_bytes=size_bytes,
        symbol_min="A",
        symbol_max="Z",
        time_min_us=day * DAY_US,
        time_max_us=(day + 1) * DAY_US - 1,
        topic="market.crypto.trades.binance",
        partition_min=partition,
        partition_max=partition,
        offset_min=number * 10,
        offset_max=number * 10 + 9,
        snapshot_id=number,
    )


sizes = st.lists(st.integers(1, 3 << 20), max_size=40)


def merged_entries(files: list[FileEntry], number: int) -> list[FileEntry]:
    """What a rewrite makes of files: whole ones, and a rest."""
    size_bytes = sum(file.size_bytes for file in files)
    whole, rest = divmod(size_bytes, POLICY.target_bytes)
    parts = [POLICY.target_bytes] * whole + ([rest] if rest else [])
    first = replace(files[0], rows=sum(file.rows for file in files))
    # By a file of its own each, for other jobs of the round make files too.
    path = f"{files[0].path}-{number}"
    return [replace(first, path=f"{path}-{n}", size_bytes=size) for n, size in enumerate(parts)]


@given(sizes, st.booleans())
def test_planning_settles(held: list[int], closed: bool) -> None:
    """Done again and again, jobs come to an end, and each file is in one job at most."""
    files = [entry(n, size) for n, size in enumerate(held)]
    now_us = (DAY + 2) * DAY_US if closed else DAY * DAY_US
    for number in range(20):
        jobs = plan_compaction(files, POLICY, now_us=now_us, unchanged_s=lambda _: 1e9)
        taken = [file.path for job in jobs for file in job.files]
        assert len(taken) == len(set(taken))
        if not jobs:
            break
        for job in jobs:
            assert len(job.files) > 1
            assert job.size_bytes <= POLICY.most_input_bytes + max(f.size_bytes for f in job.files)
            files = [file for file in files if file not in job.files]
            files += merged_entries(list(job.files), number)
    else:
        pytest.fail("jobs never end")
    small = [file for file in files if file.size_bytes < POLICY.target_bytes * 0.75]
    assert len(small) <= 1 if closed else len(small) < POLICY.merge_at * (tier_of(1 << 20) + 1)


def test_a_day_is_compacted_once_it_is_over_and_quiet() -> None:
    """Not before the grace, and not while files still come, unless somebody asks."""
    files = [entry(1, 1_000), entry(2, 1_000)]
    over_us = (DAY + 1) * DAY_US + POLICY.grace_us

    def planned(now_us: int, quiet_s: float, *, asked: bool = False) -> list[Why]:
        jobs = plan_compaction(
            files, POLICY, now_us=now_us, unchanged_s=lambda _: quiet_s, asked=asked
        )
        return [job.why for job in jobs]

    assert planned(over_us - 1, 1e9) == []
    assert planned(over_us, POLICY.quiet_s - 1) == []
    assert planned(over_us, POLICY.quiet_s) == [Why.CLOSED]
    assert planned(DAY * DAY_US, 0, asked=True) == [Why.ASKED]
    assert day_is_over(DAY, POLICY, now_us=over_us)


def test_files_of_different_days_and_partitions_never_meet() -> None:
    """A data file has one day, bucket and Kafka partition."""
    files = [entry(n, 1_000, day=DAY + n % 2, partition=n % 3) for n in range(12)]
    assert len(by_partition(files)) == 6
    jobs = plan_compaction(files, POLICY, now_us=0, unchanged_s=lambda _: 0, asked=True)
    for job in jobs:
        assert len({(file.day, file.partition_min) for file in job.files}) == 1
    assert sum(len(job.files) for job in jobs) == 12


def test_whole_files_are_left_alone() -> None:
    """Near the target nothing is gained."""
    files = [entry(n, POLICY.target_bytes) for n in range(4)]
    assert plan_compaction(files, POLICY, now_us=0, unchanged_s=lambda _: 0, asked=True) == []
