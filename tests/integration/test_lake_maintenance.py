"""Maintenance on a real SQLite catalog and real files."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table.snapshots import Operation

from libs.lake.commits.commit import Prepared
from libs.lake.commits.committer import Committer, Fenced, Landed
from libs.lake.commits.seam import SEAM_TAG, OffsetRange, seam_of, summary_text
from libs.lake.files.datafile import write_trades
from libs.lake.files.index import SnapshotIndex
from libs.lake.files.merging import is_sorted, piece_of
from libs.lake.maintenance.compaction import Job
from libs.lake.maintenance.content import content_of
from libs.lake.maintenance.rewrite import Superseded
from libs.lake.maintenance.rewriter import Replaced, Rewriter
from libs.lake.maintenance.rewriting import ContentChangedError, Pace
from libs.lake.maintenance.upkeep import Maintenance
from libs.lake.table.catalog import open_lake
from libs.lake.table.tables import TRADES
from libs.market.errors import CorruptError, UnavailableError
from tests.support.maintenance import AT, SOON, SYMBOL, Kept, everything, kept_in, rewritten
from tests.support.query import trade_rows


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return kept_in(tmp_path)


def test_compaction_changes_files_and_nothing_else(kept: Kept) -> None:
    """Rows, offsets, ledger and cluster are as before; the tag moves, and files are sorted."""
    kept.append(commits=9)
    before, content = kept.table.metadata, kept.content
    (done,) = kept.compact()
    after = kept.table.metadata
    head = after.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert (done.files, done.snapshot_id) == (1, head.snapshot_id)
    assert head.summary.operation is Operation.REPLACE
    assert kept.content == content
    assert seam_of(after) == seam_of(before)
    old = before.current_snapshot()
    assert old is not None
    for key in ("k2.offsets", "k2.cluster-id", "k2.ledger", "total-records"):
        assert summary_text(head, key) == summary_text(old, key), key
    assert after.refs[SEAM_TAG].snapshot_id == head.snapshot_id
    index = kept.history.index()
    assert (len(index.files), index.rows) == (1, 360)
    assert summary_text(head, "total-data-files") == "1"
    assert int(summary_text(head, "total-files-size")) == index.size_bytes
    assert is_sorted(piece_of(pq.read_table(index.files[0].path, partitioning=None)))


def test_a_compacted_table_reads_equal_by_pyiceberg_and_by_duckdb(kept: Kept) -> None:
    """Every field of every row, with bounds that hide nothing from filters."""
    kept.append(commits=6)
    kept.compact()
    kept.append()
    expected = trade_rows(SYMBOL, range(280))
    by_iceberg = kept.rows().sort_by("kafka_offset").select(expected.schema.names)
    paths = [file.path for file in kept.history.index().files]
    query = "SELECT * FROM read_parquet(?, hive_partitioning=false) ORDER BY kafka_offset"
    with duckdb.connect() as database:
        by_files: pa.Table = database.sql(query, params=[paths]).to_arrow_table()
    assert by_iceberg.cast(expected.schema).to_pylist() == expected.to_pylist()
    assert by_files.cast(expected.schema).to_pylist() == expected.to_pylist()
    found = kept.table.scan(row_filter="kafka_offset >= 100 and kafka_offset < 130").to_arrow()
    assert found.num_rows == 30


def test_files_end_at_the_target_size(kept: Kept) -> None:
    """Many rows become several files, each sorted, none much larger than asked."""
    kept.append(4_000, commits=10)
    content, target = kept.content, SOON.compaction.target_bytes
    (done,) = kept.compact()
    files = kept.history.index().files
    assert done.files == len(files) > 2
    assert all(file.size_bytes < 6 * target for file in files)
    assert kept.content == content
    assert all(is_sorted(piece_of(pq.read_table(file.path, partitioning=None))) for file in files)


def test_manifests_and_snapshots_stay_few(kept: Kept) -> None:
    """What a rewrite removed leaves the lists with the next commit."""
    for _ in range(8):
        kept.append(commits=5)
        kept.compact()
    kept.append()
    head = kept.table.metadata.current_snapshot()
    assert head is not None
    manifests = head.manifests(kept.table.io)
    assert len(manifests) <= 3
    assert not any(manifest.deleted_files_count for manifest in manifests)
    assert len(kept.table.metadata.snapshots) < 8


def test_an_append_that_is_faster_costs_a_manifest_not_the_work(kept: Kept) -> None:
    """The same files are committed on the new head, and the append stays."""
    kept.append(commits=4)
    (job,) = kept.jobs()
    rewrite = rewritten(kept, job)
    faster = iter([True, False])

    def first_append(point: str) -> None:
        if point == "maintenance.before_send" and next(faster):
            kept.append()

    outcome = Rewriter(kept.history.lake, TRADES, points=first_append).commit(rewrite)
    assert isinstance(outcome, Replaced)
    assert outcome.attempts == 2
    assert kept.content == content_of(trade_rows(SYMBOL, range(200)))
    assert len(kept.history.index().files) == 2


def test_of_two_compactions_of_the_same_files_one_is_superseded(kept: Kept) -> None:
    """Its inputs are not live any more; no row is there twice."""
    kept.append(commits=4)
    (job,) = kept.jobs()
    first, second = rewritten(kept, job), rewritten(kept, job)
    rewriter = Rewriter(kept.history.lake, TRADES)
    assert isinstance(rewriter.commit(first), Replaced)
    assert isinstance(rewriter.commit(second), Superseded)
    assert isinstance(rewriter.commit(first), Replaced), "asked again, it has landed"
    assert kept.content == content_of(trade_rows(SYMBOL, range(160)))


def test_a_landed_rewrite_is_known_when_its_snapshot_is_expired(kept: Kept) -> None:
    """By its files: an unknown outcome never ends in rows twice or files deleted."""
    kept.append(commits=4)
    (job,) = kept.jobs()
    rewrite = rewritten(kept, job)
    Rewriter(kept.history.lake, TRADES).commit(rewrite)
    kept.append(commits=8)
    assert isinstance(Rewriter(kept.history.lake, TRADES).commit(rewrite), Replaced)
    assert kept.content == content_of(trade_rows(SYMBOL, range(480)))


def test_files_too_old_to_be_safe_from_orphan_removal_are_not_committed(kept: Kept) -> None:
    """A rewrite that slept for half the orphan age is dropped, and so is an append."""
    kept.append(commits=4)
    (job,) = kept.jobs()
    rewrite = rewritten(kept, job)
    kept.clock.advance(12 * 3_600 + 1)
    old = Rewriter(kept.history.lake, TRADES, clock=kept.clock, longest_s=SOON.orphan_age_s / 2)
    assert isinstance(old.commit(rewrite), Superseded)
    start = kept.next_offset
    (file,) = write_trades(kept.table, trade_rows(SYMBOL, range(start, start + 40)))
    slept = replace(file, written_us=rewrite.written_us)
    covered = {AT: OffsetRange(start, start + 40)}
    committer = Committer(kept.history.lake, TRADES, clock=kept.clock)
    outcome = committer.commit(Prepared(uuid.uuid4().hex, covered, (slept,)))
    assert isinstance(outcome, Fenced)
    assert outcome.offsets == {AT: start}


def test_content_that_would_change_is_not_committed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge that lost a row is found before the commit, and its files are gone again."""
    kept.append(commits=4)
    files, head = kept.files(), kept.table.metadata.current_snapshot_id
    monkeypatch.setattr("libs.lake.files.merging.in_order", lambda parts: parts[0].slice(1))
    with pytest.raises(ContentChangedError, match="nothing was changed"):
        kept.compact()
    assert kept.table.metadata.current_snapshot_id == head
    assert kept.files() == files


def test_a_damaged_input_is_told_and_left(kept: Kept) -> None:
    """What cannot be read is not compacted, and nothing else suffers."""
    kept.append(commits=4)
    victim = Path(kept.history.index().files[0].path)
    victim.write_bytes(victim.read_bytes()[:100])
    head = kept.table.metadata.current_snapshot_id
    with pytest.raises(CorruptError, match=victim.name):
        kept.compact()
    assert kept.table.metadata.current_snapshot_id == head


def test_appends_and_compactions_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    """Two of each on one SQLite catalog: offsets never go back, every row is there once."""
    kept = kept_in(tmp_path)
    kept.append()
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(kept.next_offset)

    def compact() -> int:
        own = Maintenance(
            open_lake(kept.history.catalog_uri, kept.history.warehouse),
            TRADES,
            kept.options,
            clock=kept.clock,
        )
        landed = 0
        while not done.is_set():
            for job in own.plan(everything, asked=True):
                landed += compacted(own, job)
        return landed

    with ThreadPoolExecutor(3) as threads:
        watching = threads.submit(look)
        compacting = [threads.submit(compact) for _ in range(2)]
        kept.append(20, commits=15)
        done.set()
        watching.result()
        assert sum(job.result() for job in compacting) > 0
    assert seen == sorted(seen)
    assert kept.content == content_of(trade_rows(SYMBOL, range(40 + 15 * 20)))


def compacted(own: Maintenance, job: Job) -> bool:
    try:
        return own.compact(job, Pace()).snapshot_id > 0
    except (CorruptError, UnavailableError, OSError):
        return False


def test_writers_go_on_after_a_compaction(kept: Kept) -> None:
    """The next append starts at the same offset, and a buffer made before lands as well."""
    kept.append(commits=4)
    start = kept.next_offset
    files = write_trades(kept.table, trade_rows(SYMBOL, range(start, start + 40)))
    buffer = Prepared(uuid.uuid4().hex, {AT: OffsetRange(start, start + 40)}, tuple(files))
    kept.compact()
    assert isinstance(Committer(kept.history.lake, TRADES).commit(buffer), Landed)
    assert kept.content == content_of(trade_rows(SYMBOL, range(200)))


def test_the_index_follows_a_compaction(kept: Kept) -> None:
    """What was removed is not in the next index, and the one before still reads."""
    kept.append(commits=4)
    before = kept.history.index()
    kept.compact()
    after = SnapshotIndex.build(kept.table, before)
    assert (len(before.files), len(after.files)) == (4, 1)
    assert before.rows == after.rows
    assert not {file.path for file in before.files} & {file.path for file in after.files}
    assert all(Path(file.path).exists() for file in before.files)
