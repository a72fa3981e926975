"""Data files, commits and the file index on a real SQLite catalog and real files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import ManifestContent

from libs.lake.commits.commit import Prepared
from libs.lake.commits.committer import Committer, Landed
from libs.lake.commits.seam import MissingSeamError, OffsetRange, TopicPartition, seam_of
from libs.lake.files.datafile import write_trades
from libs.lake.files.index import SnapshotIndex, UnsupportedDeletesError, refuse_deletes
from libs.lake.maintenance.retention import Retention
from libs.lake.table.catalog import Lake
from libs.lake.table.tables import TRADES, ensure_trades
from libs.market.errors import (
    ConfigError,
    NotFoundError,
)
from libs.wire.schema import TRADE_SCHEMA
from tests.support.committing import commit_rows, covering, open_here, ordered, scan
from tests.support.trades import DAY_US, FIRST_DAY_US, SYMBOLS, TOPIC, trade_rows


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    opened = open_here(tmp_path)
    yield opened
    opened.close()


def test_tables_read_equal_by_pyiceberg_and_by_duckdb(lake: Lake) -> None:
    """Every field of every row, through Iceberg alone and through the files alone."""
    rows = trade_rows(3_000, spread_us=2 * DAY_US)
    commit_rows(lake, rows)
    table = lake.load_table(TRADES)
    paths = [file.path for file in SnapshotIndex.build(table).files]
    query = "SELECT * FROM read_parquet(?, hive_partitioning=false)"
    with duckdb.connect() as database:
        by_files: pa.Table = database.sql(query, params=[paths]).to_arrow_table()
    expected = ordered(rows)
    assert ordered(scan(table)) == expected
    assert ordered(by_files.cast(TRADE_SCHEMA)) == expected


def test_iceberg_filters_find_what_the_files_hold(lake: Lake) -> None:
    """The statistics we write do not hide rows from other engines."""
    rows = trade_rows(2_000, spread_us=2 * DAY_US)
    commit_rows(lake, rows)
    table = lake.load_table(TRADES)
    found = table.scan(row_filter="symbol = 'ETHUSDT' and price > 50000").to_arrow()
    mask = pc.and_(
        pc.equal(rows["symbol"], "ETHUSDT"),
        pc.greater(rows["price"], pa.scalar(Decimal(50_000), pa.decimal128(28, 12))),
    )
    assert 0 < found.num_rows == rows.filter(mask).num_rows


def test_index_reads_only_manifests_it_has_not_seen(lake: Lake) -> None:
    """Entries of manifests seen before are the same objects, not read again."""
    commit_rows(lake, trade_rows(300))
    first = SnapshotIndex.build(lake.load_table(TRADES))
    commit_rows(lake, trade_rows(300, first_offset=offsets_after(lake)))
    second = SnapshotIndex.build(lake.load_table(TRADES), first)
    assert len(second.manifests) == 2
    for path, entries in first.manifests.items():
        assert second.manifests[path] is entries
    assert second.rows == 600
    assert second.seam == seam_of(lake.load_table(TRADES).metadata)


def offsets_after(lake: Lake) -> int:
    """An offset past all of the table's, for rows that skip no fence: partitions are made even."""
    table = lake.load_table(TRADES)
    seam = seam_of(table.metadata)[TOPIC]
    highest = max(seam.values())
    gaps = {
        TopicPartition(TOPIC, partition): OffsetRange(offset, highest)
        for partition, offset in seam.items()
        if offset < highest
    }
    if gaps:
        Committer(lake, TRADES).commit(Prepared(f"even-{highest}", gaps))
    return highest


def test_index_prunes_by_symbol_and_time(lake: Lake) -> None:
    """What it leaves out holds no row of the answer, and what it says of files is so."""
    rows = trade_rows(2_000, spread_us=4 * DAY_US)
    commit_rows(lake, rows)
    index = SnapshotIndex.build(lake.load_table(TRADES))
    start, end = FIRST_DAY_US + DAY_US, FIRST_DAY_US + 2 * DAY_US
    paths = [file.path for file in index.select(["ETHUSDT"], start, end)]
    assert len(paths) == 1
    found = pq.read_table(paths[0], partitioning=None)
    times = pc.cast(rows["timestamp"], pa.int64()).to_numpy()
    inside = (np.array(rows["symbol"].to_pylist()) == "ETHUSDT") & (times >= start) & (times < end)
    assert found.filter(pc.equal(found["symbol"], "ETHUSDT")).num_rows == inside.sum()
    assert index.select(["NOBODY"]) == []
    for entry in index.files:
        assert entry.topic == TOPIC
        assert entry.position is not None
        assert pq.read_metadata(entry.path).num_rows == entry.rows


def test_index_of_an_older_snapshot(lake: Lake) -> None:
    """Time travel: the files and the seam of then."""
    first = commit_rows(lake, trade_rows(200))
    commit_rows(lake, trade_rows(200, first_offset=offsets_after(lake)))
    table = lake.load_table(TRADES)
    index = SnapshotIndex.build(table, snapshot_id=first.snapshot_id)
    assert (index.rows, index.seam) == (200, first.seam)
    with pytest.raises(NotFoundError):
        SnapshotIndex.build(table, snapshot_id=1)


def test_old_snapshots_are_forgotten_and_rows_stay(lake: Lake) -> None:
    """Commits stay cheap: the metadata keeps the newest, the last of an hour, and the tagged."""
    ensure_trades(lake)
    committer = Committer(lake, TRADES, retention=Retention(newest=3, at_once=5))
    for n in range(26):
        at = TopicPartition(TOPIC, 0)
        landed = committer.commit(Prepared(f"c{n}", {at: OffsetRange(n, n + 1)}))
        assert isinstance(landed, Landed)
    table = lake.load_table(TRADES)
    assert len(table.metadata.snapshots) < 10
    assert seam_of(table.metadata) == {TOPIC: {0: 26}}
    assert SnapshotIndex.build(table).seam == {TOPIC: {0: 26}}


def test_many_small_manifests_become_one(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit's cost does not grow with the commits before it; rows and their origin stay."""
    monkeypatch.setattr("libs.lake.commits.manifests.MERGE_AT", 4)
    rows, brought = [], []
    for n in range(11):
        rows.append(trade_rows(20, seed=n, symbols=SYMBOLS[:1], first_offset=20 * n))
        brought.append(commit_rows(lake, rows[-1]).snapshot_id)
    table = lake.load_table(TRADES)
    index = SnapshotIndex.build(table)
    assert len(index.manifests) < 6
    assert sorted(file.snapshot_id for file in index.files) == sorted(brought)
    assert ordered(scan(table)) == ordered(pa.concat_tables(rows))
    entries = table.inspect.entries().to_pylist()
    assert sorted(entry["sequence_number"] for entry in entries) == list(range(1, 12))


def test_files_written_before_the_partitioning_changed_still_land(lake: Lake) -> None:
    """They go into a manifest of the spec they were made for; what is written next is refused."""
    table = ensure_trades(lake)
    rows = trade_rows(40)
    buffer = covering(write_trades(table, rows))
    with table.update_spec() as change:
        change.add_identity("side")
    assert isinstance(Committer(lake, TRADES).commit(buffer), Landed)
    table = lake.load_table(TRADES)
    assert ordered(scan(table)) == ordered(rows)
    assert SnapshotIndex.build(table).rows == 40
    with pytest.raises(ConfigError, match="partitioned"):
        write_trades(table, rows)


def test_delete_files_are_refused(lake: Lake) -> None:
    """Reading on would answer with deleted rows."""
    commit_rows(lake, trade_rows(20))
    table = lake.load_table(TRADES)
    snapshot = table.metadata.current_snapshot()
    assert snapshot is not None
    (manifest,) = snapshot.manifests(table.io)
    refuse_deletes([manifest], snapshot.snapshot_id)
    manifest[3] = ManifestContent.DELETES
    with pytest.raises(UnsupportedDeletesError):
        refuse_deletes([manifest], snapshot.snapshot_id)


def test_another_tools_append_stops_the_writer(lake: Lake) -> None:
    """PyIceberg alone may add rows; K2 then no longer knows where it stands, and says so."""
    rows = trade_rows(50)
    commit_rows(lake, rows)
    lake.load_table(TRADES).append(rows)
    with pytest.raises(MissingSeamError):
        commit_rows(lake, trade_rows(50, first_offset=1_000))
    with pytest.raises(MissingSeamError):
        SnapshotIndex.build(lake.load_table(TRADES))


def test_foreign_expiry_keeps_the_seam(lake: Lake) -> None:
    """The tag protects the last commit of ours."""
    for n in range(3):
        at = TopicPartition(TOPIC, 0)
        ensure_trades(lake)
        Committer(lake, TRADES).commit(Prepared(f"c{n}", {at: OffsetRange(n, n + 1)}))
    table = lake.load_table(TRADES)
    old = [s.snapshot_id for s in table.metadata.snapshots][:-1]
    table.maintenance.expire_snapshots().by_ids(old).commit()
    assert seam_of(lake.load_table(TRADES).metadata) == {TOPIC: {0: 3}}


def test_writers_of_several_processes_share_one_table(tmp_path: Path) -> None:
    """Each commits its own partitions through its own catalog; nothing is lost or doubled."""
    ensure_trades(open_here(tmp_path))

    def write(partition: int) -> None:
        lake = open_here(tmp_path)
        committer = Committer(lake, TRADES)
        for n in range(6):
            at = TopicPartition(TOPIC, partition)
            done = committer.commit(Prepared(f"{partition}-{n}", {at: OffsetRange(n, n + 1)}))
            assert isinstance(done, Landed)
        lake.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    table = open_here(tmp_path).load_table(TRADES)
    assert seam_of(table.metadata) == {TOPIC: {0: 6, 1: 6, 2: 6}}


def test_processes_that_start_together_make_one_table(tmp_path: Path) -> None:
    """Neither the catalog's own tables nor the namespace nor ours is made twice."""
    barrier = threading.Barrier(4)

    def start(_n: int) -> str:
        barrier.wait()
        return str(ensure_trades(open_here(tmp_path)).metadata.table_uuid)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 1
