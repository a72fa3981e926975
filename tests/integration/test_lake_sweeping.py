"""Which files maintenance deletes, when, and which never."""

from __future__ import annotations

import os
from errno import ENOSPC
from pathlib import Path

import pytest
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update import SetSnapshotRefUpdate

from libs.lake.commits.seam import MissingSeamError
from libs.lake.ledger import store
from libs.lake.ledger.store import ledger_folder
from libs.lake.maintenance.content import content_of
from libs.lake.maintenance.expiry import LONGEST_ASLEEP_US
from libs.lake.maintenance.forgotten import leave_note, note_of
from libs.lake.maintenance.orphans import referred_to
from libs.lake.maintenance.rewriter import Rewriter
from libs.lake.table.tables import TRADES
from libs.market.errors import CorruptError
from tests.support import foreign
from tests.support.evidence import snapshots_of
from tests.support.maintenance import SOON, SYMBOL, Kept, kept_in, rewritten
from tests.support.query import trade_rows


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return kept_in(tmp_path)


def test_files_outlive_their_snapshots_by_the_grace(kept: Kept) -> None:
    """Not a file goes before the grace is over; then all that nobody refers to, and no other."""
    kept.append(commits=6)
    kept.compact()
    kept.append(commits=6)
    kept.maintenance.forget()
    before = kept.files()
    assert kept.sweep() == 0
    assert kept.files() == before
    kept.clock.advance(SOON.file_grace_s + 1)
    assert kept.sweep() > 20
    left = {path for path in kept.files() if "forgotten-" not in path.name}
    assert kept.in_use() <= left
    assert not {path for path in left - kept.in_use() if path.suffix == ".parquet"}
    assert kept.content == content_of(trade_rows(SYMBOL, range(480)))
    assert kept.maintenance.waiting()[1] == 0


def test_the_grace_begins_when_the_commit_has_landed(kept: Kept) -> None:
    """Its note was left before, and who left it may have slept in between."""
    kept.append(commits=6)
    kept.compact()
    kept.append(commits=6)
    metadata = kept.table.metadata
    doomed = kept.options.retention.expirable(metadata)
    folder = ledger_folder(kept.history.lake.warehouse, metadata)
    leave_note(kept.table.io, folder, note_of(metadata, doomed, now_us=kept.clock.now_us()))
    kept.clock.advance(SOON.file_grace_s + 1)
    assert kept.sweep() == 0
    kept.maintenance.forget()
    assert kept.sweep() == 0
    kept.clock.advance(SOON.file_grace_s + 1)
    assert kept.sweep() > 20


def test_a_note_of_a_commit_that_did_not_land_deletes_nothing(kept: Kept) -> None:
    """What kept snapshots refer to stays, whatever a note says."""
    kept.append(commits=3)
    metadata = kept.table.metadata
    every = [snapshot.snapshot_id for snapshot in metadata.snapshots]
    folder = ledger_folder(kept.history.lake.warehouse, metadata)
    leave_note(kept.table.io, folder, note_of(metadata, every, now_us=kept.clock.now_us()))
    used = kept.in_use()
    kept.clock.advance(SOON.file_grace_s + LONGEST_ASLEEP_US / 1e6 + 1)
    kept.sweep()
    assert used <= kept.files()
    assert kept.maintenance.waiting() == (0, 0)
    assert kept.content.rows == 120


@pytest.mark.parametrize("size", [0, 200])
def test_a_torn_note_stops_nothing(kept: Kept, size: int) -> None:
    """Who left it was killed, or had no room: the others count; it goes when it is a day old."""
    kept.append(commits=6)
    kept.compact()
    kept.append(commits=6)
    metadata = kept.table.metadata
    folder = ledger_folder(kept.history.lake.warehouse, metadata)
    note = note_of(metadata, [metadata.snapshots[0].snapshot_id], now_us=kept.clock.now_us())
    torn = Path(leave_note(kept.table.io, folder, note).removeprefix("file://"))
    os.truncate(torn, size)
    kept.maintenance.forget()
    assert kept.maintenance.orphans().files == ()
    assert kept.sweep() == 0
    kept.clock.advance(SOON.file_grace_s + 1)
    assert kept.sweep() > 20
    assert torn.exists()
    kept.clock.advance(LONGEST_ASLEEP_US / 1e6)
    kept.sweep()
    assert not torn.exists()
    assert kept.content == content_of(trade_rows(SYMBOL, range(480)))


def test_what_cannot_be_written_leaves_no_part(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk often says so only when all of it is to be there."""

    def full(_: object) -> None:
        raise OSError(ENOSPC, "no space left on device")

    kept.append()
    before = kept.files()
    monkeypatch.setattr(store, "make_durable", full)
    with pytest.raises(OSError, match="no space"):
        store.put(kept.table.io, f"file://{kept.history.warehouse}/_k2/a.json", b"{}")
    assert kept.files() == before


def test_tagged_snapshots_keep_their_files(kept: Kept) -> None:
    """What somebody tagged can be read for ever."""
    kept.append()
    first = kept.table.metadata.current_snapshot_id
    assert first is not None
    tag = SetSnapshotRefUpdate.model_validate(
        {"ref-name": "audit", "type": SnapshotRefType.TAG, "snapshot-id": first}
    )
    kept.history.lake.commit_table(kept.table, (), (tag,))
    kept.append(commits=6)
    kept.compact()
    kept.append(commits=4)
    kept.clock.advance(SOON.file_grace_s + 1)
    kept.append(commits=2)
    kept.sweep()
    kept.clock.advance(SOON.file_grace_s + 1)
    assert kept.sweep()
    assert kept.table.scan(snapshot_id=first).to_arrow().num_rows == 40


def test_orphans_are_old_unreferenced_and_ours(kept: Kept) -> None:
    """Young files, files in use, files that wait in a note and files of others all stay."""
    kept.append(commits=5)
    kept.compact()
    kept.append(commits=5)
    kept.maintenance.forget()
    (job,) = kept.jobs()
    rewritten(kept, job)
    warehouse = Path(kept.history.warehouse)
    (orphan,) = kept.files() - kept.in_use() - noted(kept)
    foreign = [warehouse / "market/trades/data/notes.txt", warehouse / "other/data/a.parquet"]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not K2's")
    assert kept.maintenance.orphans().files == (), "too young"
    kept.age(sorted(kept.files()), SOON.orphan_age_s + 60)
    before, found = kept.files(), kept.maintenance.orphans()
    assert [file.location.rpartition("/")[2] for file in found.files] == [orphan.name]
    assert len(list(kept.maintenance.remove(found.files))) == 1
    assert before - kept.files() == {orphan}
    assert kept.content == content_of(trade_rows(SYMBOL, range(400)))


def noted(kept: Kept) -> set[Path]:
    """Return the notes, and what they speak of."""
    folder = ledger_folder(kept.history.lake.warehouse, kept.table.metadata)
    paths = {Path(location.removeprefix("file://")) for location in referred_to(kept.table, folder)}
    return paths | {path for path in kept.files() if path.name.startswith("forgotten-")}


def test_a_lost_manifest_of_a_kept_snapshot_stops_all_deletion(kept: Kept) -> None:
    """A foreign orphan removal went too far: nobody knows any more what is in use."""
    kept.append(commits=6)
    kept.maintenance.forget()
    kept.sweep()
    head = kept.table.metadata.current_snapshot()
    assert head is not None
    Path(head.manifest_list.removeprefix("file://")).unlink()
    kept.age(sorted(kept.files()), SOON.orphan_age_s + 60)
    kept.clock.advance(SOON.file_grace_s + 1)
    before = kept.files()
    with pytest.raises(CorruptError, match="no file is deleted"):
        kept.sweep()
    with pytest.raises(CorruptError, match="no file is deleted"):
        kept.maintenance.orphans()
    assert kept.files() == before


def test_after_a_foreign_append_nothing_is_touched(kept: Kept) -> None:
    """Nobody knows its offsets: maintenance stops as the writer does."""
    kept.append(commits=4)
    (job,) = kept.jobs()
    rewrite = rewritten(kept, job)
    kept.table.append(kept.rows().slice(0, 5))
    with pytest.raises(MissingSeamError):
        kept.jobs()
    with pytest.raises(MissingSeamError):
        Rewriter(kept.history.lake, TRADES).commit(rewrite)


def test_the_clock_of_another_tool_leaves_ours_in_order(kept: Kept) -> None:
    """Ours was an hour ahead, and is no more; theirs came between, and is forgotten some time."""
    kept.clock.advance(3_600)
    kept.append(commits=2)
    foreign.rewrite(kept.table)
    kept.clock.advance(-3_600)
    kept.append(commits=4)
    kept.compact()
    ours = [seen.timestamp_ms for seen in snapshots_of(kept.table) if not seen.foreign]
    assert len(ours) >= 3
    assert ours == sorted(set(ours))
