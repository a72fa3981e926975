"""Catalogs that are damaged, away, hang or wait: one sentence each, and nothing lost."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.table import Table

from libs.lake.commits.commit import Prepared
from libs.lake.commits.committer import Committer, Landed, Patience
from libs.lake.commits.seam import OffsetRange, TopicPartition, seam_of
from libs.lake.table.catalog import Lake, open_lake
from libs.lake.table.tables import TRADES, ensure_trades
from libs.market.errors import (
    ConfigError,
    CorruptError,
    K2Error,
    NotFoundError,
    UnavailableError,
)
from tests.support.committing import commit_rows, open_here
from tests.support.trades import SYMBOLS, TOPIC, trade_rows


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    opened = open_here(tmp_path)
    yield opened
    opened.close()


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
    assert time.monotonic() - started_s < 60
    assert sum(thread.name == "catalog-call" for thread in threading.enumerate()) <= 16
    catalog.released.set()


def test_commit_that_waits_for_a_lock_lands_once(tmp_path: Path) -> None:
    """The catalog did not answer in time, and the commit landed after the writer gave up on it."""
    lake, hasty = open_here(tmp_path), open_here(tmp_path, timeout_s=0.5)
    ensure_trades(lake)
    at = TopicPartition(TOPIC, 0)
    buffer = Prepared("mine", {at: OffsetRange(0, 5)})
    committer = Committer(hasty, TRADES, patience=Patience(give_up_after_s=0))
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
