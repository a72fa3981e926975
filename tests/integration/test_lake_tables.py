"""Data files, commits and the file index on a real SQLite catalog and real files."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table

from libs.lake.commits.commit import LakeFile, Prepared
from libs.lake.commits.committer import Committer, Landed, Patience
from libs.lake.commits.seam import MissingSeamError, OffsetRange, TopicPartition, seam_of
from libs.lake.files.datafile import SHARED_GROUP_ROWS, STATISTICS_COLUMNS, write_trades
from libs.lake.files.index import SnapshotIndex, UnsupportedDeletesError, refuse_deletes
from libs.lake.maintenance.retention import Retention
from libs.lake.table.catalog import Lake, open_lake
from libs.lake.table.tables import TRADES, TRADES_SCHEMA, bucket_of, ensure_trades
from libs.market.errors import (
    ConfigError,
    CorruptError,
    K2Error,
    NotFoundError,
    UnavailableError,
)
from libs.wire.schema import TRADE_SCHEMA
from tests.support.trades import DAY_US, FIRST_DAY_US, SYMBOLS, TOPIC, trade_rows


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    opened = open_here(tmp_path)
    yield opened
    opened.close()


def open_here(folder: Path, *, timeout_s: float = 10) -> Lake:
    return open_lake(
        f"sqlite:///{folder}/data/catalog.db", folder / "warehouse", timeout_s=timeout_s
    )


def commit_rows(lake: Lake, rows: pa.Table) -> Landed:
    """Write and commit rows whose offsets follow on the table's."""
    table = ensure_trades(lake)
    files = write_trades(table, rows)
    landed = Committer(lake, TRADES).commit(covering(files))
    assert isinstance(landed, Landed)
    return landed


def covering(files: list[LakeFile]) -> Prepared:
    ranges: dict[TopicPartition, OffsetRange] = {}
    for file in files:
        before = ranges.get(file.position, OffsetRange(file.first_offset, 0))
        ranges[file.position] = OffsetRange(
            min(before.start, file.first_offset), max(before.end, file.last_offset + 1)
        )
    return Prepared(f"commit-{time.monotonic_ns()}", ranges, tuple(files), cluster_id="kafka-1")


def ordered(rows: pa.Table) -> list[dict[str, object]]:
    by_offset = rows.sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")])
    in_order: list[dict[str, object]] = by_offset.select(TRADE_SCHEMA.names).to_pylist()
    return in_order


def scan(table: Table) -> pa.Table:
    """Read the table by PyIceberg alone."""
    found: pa.Table = table.scan().to_arrow()
    return found.select(TRADE_SCHEMA.names).cast(TRADE_SCHEMA)


def stored_at(file: LakeFile) -> Path:
    return Path(file.data_file.file_path.removeprefix("file://"))


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
    assert {chunk.compression for chunk in chunks.values()} == {"ZSTD"}


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


def test_table_of_another_shape_is_refused(lake: Lake) -> None:
    """A table of the same name that is not K2's is named as such."""
    table = ensure_trades(lake)
    with table.update_schema() as change:
        change.delete_column("side")
    with pytest.raises(ConfigError, match="side"):
        ensure_trades(lake)


def test_corrupt_catalog_file_is_named(tmp_path: Path) -> None:
    """One sentence, and what to do."""
    path = tmp_path / "data" / "catalog.db"
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(CorruptError, match="restore it, or move it away") as caught:
        open_here(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_metadata_files_are_named(tmp_path: Path) -> None:
    """The catalog is sound, what it points at is not."""
    lake = open_here(tmp_path)
    ensure_trades(lake)
    path = Path(lake.metadata_location(TRADES).removeprefix("file://"))
    path.write_text('{"format-version": 2, ')
    with pytest.raises(CorruptError):
        lake.load_table(TRADES)
    path.unlink()
    with pytest.raises(CorruptError):
        lake.load_table(TRADES)


def test_catalog_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    """A folder where the file should be."""
    (tmp_path / "data" / "catalog.db").mkdir(parents=True)
    with pytest.raises(UnavailableError, match="catalog"):
        open_here(tmp_path)


class HangingCatalog:
    """A catalog that takes a call and never answers."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def load_table(self, _identifier: str) -> Table:
        self.released.wait(30)
        raise OSError("released")


@pytest.mark.parametrize(
    ("uri", "kind", "said"),
    [
        ("http://reader:secret@127.0.0.1:1", UnavailableError, "cannot open the catalog http://"),
        ("carrier-pigeon://u:secret@h/k2", ConfigError, "carrier-pigeon://u:\\*\\*\\*@h/k2 is no"),
        ("postgresql+none://u:secret@h/k2", ConfigError, "postgresql\\+none://.* is no catalog"),
    ],
)
def test_catalog_server_that_cannot_be_had_is_one_sentence(
    tmp_path: Path, uri: str, kind: type[K2Error], said: str
) -> None:
    """Naming its address, but never its password."""
    with pytest.raises(kind, match=said) as refusal:
        open_lake(uri, tmp_path)
    assert "secret" not in f"{refusal.value.message} {refusal.value.facts}"


def test_a_catalogs_password_is_in_no_error(tmp_path: Path) -> None:
    """The errors of calls name the catalog, in logs and to callers."""
    empty = InMemoryCatalog("k2", warehouse=tmp_path.as_uri())
    lake = Lake(empty, uri="postgresql://k2:secret@db/k2")
    with pytest.raises(K2Error) as refusal:
        lake.load_table(TRADES)
    assert refusal.value.facts == {"catalog": "postgresql://k2:***@db/k2"}
    lake.close()


def test_catalog_that_hangs_is_unavailable_within_its_bound() -> None:
    """Nobody waits for it longer than told, and calls do not pile up without end."""
    catalog = HangingCatalog()
    lake = Lake(catalog, uri="test", timeout_s=0.02)  # type: ignore[arg-type]
    started_s = time.monotonic()
    for _ in range(20):
        with pytest.raises(UnavailableError):
            lake.load_table(TRADES)
    assert time.monotonic() - started_s < 5
    assert sum(thread.name == "catalog-call" for thread in threading.enumerate()) <= 16
    catalog.released.set()


def test_commit_that_waits_for_a_lock_lands_once(tmp_path: Path) -> None:
    """The catalog did not answer in time, and the commit landed after the writer gave up on it."""
    lake = open_here(tmp_path, timeout_s=0.5)
    ensure_trades(lake)
    at = TopicPartition(TOPIC, 0)
    buffer = Prepared("mine", {at: OffsetRange(0, 5)})
    committer = Committer(lake, TRADES, patience=Patience(give_up_after_s=0))
    with closing(sqlite3.connect(tmp_path / "data" / "catalog.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError):
            committer.commit(buffer)
        other.rollback()
    landed = Committer(lake, TRADES).commit(buffer)
    assert isinstance(landed, Landed)
    metadata = lake.load_table(TRADES).metadata
    assert len(metadata.snapshots) == 1
    assert seam_of(metadata) == {TOPIC: {0: 5}}


def test_pointer_moves_with_each_commit(lake: Lake) -> None:
    """A watcher polls it without reading the metadata."""
    ensure_trades(lake)
    before = lake.metadata_location(TRADES)
    commit_rows(lake, trade_rows(10, symbols=SYMBOLS[:1]))
    assert lake.metadata_location(TRADES) == lake.load_table(TRADES).metadata_location != before
    with pytest.raises(NotFoundError):
        lake.metadata_location("market.nothing")


def test_table_known_already_is_read_again_only_where_it_has_moved(lake: Lake) -> None:
    """A commit moves it, and then it is the new one."""
    known = ensure_trades(lake)
    assert lake.load_table_after(TRADES, known) is known
    commit_rows(lake, trade_rows(10))
    moved = lake.load_table_after(TRADES, known)
    assert moved.metadata_location == lake.metadata_location(TRADES) != known.metadata_location
