"""The commit as a pure function, and the loop against a catalog's every answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation

from libs.lake.commits.commit import (
    AlreadyLanded,
    CommitPlan,
    ForeignLogError,
    Kind,
    Prepared,
    Refused,
    head_of,
    plan_commit,
)
from libs.lake.commits.committer import Committer, Fenced, Landed, Patience
from libs.lake.commits.seam import (
    MissingSeamError,
    OffsetRange,
    TopicPartition,
    decode_offsets,
    seam_of,
)
from libs.lake.commits.snapshot import stage
from libs.lake.table.tables import TRADES
from libs.market.errors import ConflictError, InvalidError, UnavailableError
from tests.support.lake import (
    TOPIC,
    Answer,
    MemoryStore,
    foreign,
    load,
    made_up_file,
    offsets_of,
    prepared,
)

AT_ONCE = Patience(give_up_after_s=5, sleep=lambda _s: None)


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    return MemoryStore(tmp_path)


@pytest.fixture
def committer(store: MemoryStore) -> Committer:
    return Committer(store, TRADES, patience=AT_ONCE)


def at(partition: int) -> TopicPartition:
    return TopicPartition(TOPIC, partition)


def stored(store: MemoryStore) -> dict[int, list[int]]:
    """Every stored offset by partition, sorted, repeats kept."""
    found: dict[int, list[int]] = {}
    for file in store.live_files():
        partition, offsets = offsets_of(file)
        found.setdefault(partition, []).extend(offsets)
    return {partition: sorted(offsets) for partition, offsets in found.items()}


def summary_of(store: MemoryStore) -> dict[str, str]:
    head = store.metadata.current_snapshot()
    assert head is not None
    assert head.summary is not None
    return head.summary.additional_properties


def files_on_disk(store: MemoryStore) -> set[Path]:
    return {path for path in store.folder.rglob("*") if path.is_file()}


def test_first_commit_starts_from_an_empty_seam(store: MemoryStore, committer: Committer) -> None:
    """A table nobody wrote to stands at 0 everywhere."""
    assert seam_of(store.metadata) == {}
    landed = committer.commit(prepared((3, 0, 5)))
    assert isinstance(landed, Landed)
    assert landed.seam == seam_of(store.metadata) == {TOPIC: {3: 5}}
    assert stored(store) == {3: [0, 1, 2, 3, 4]}


def test_first_commit_demands_that_there_is_no_head(store: MemoryStore) -> None:
    """Two first commits on one empty table: the second is refused, not stacked on the first."""
    table = load(store)
    plan = plan_commit(head_of(table.metadata), prepared((0, 0, 2)), now_ms=1)
    assert isinstance(plan, CommitPlan)
    one, two = stage(table, plan), stage(table, plan)
    store.commit_table(table, one.requirements, one.updates)
    with pytest.raises(ConflictError):
        store.commit_table(table, two.requirements, two.updates)


def test_range_that_does_not_start_at_the_seam_is_refused(committer: Committer) -> None:
    """The fence: neither a repeat nor a gap gets in."""
    committer.commit(prepared((0, 0, 10)))
    assert committer.commit(prepared((0, 5, 12))) == Fenced({at(0): 10})
    assert committer.commit(prepared((0, 11, 12))) == Fenced({at(0): 10})


def test_failed_fence_costs_only_its_partition(store: MemoryStore, committer: Committer) -> None:
    """The rest of the buffer is committed, and the answer says where the lost part stands."""
    committer.commit(prepared((0, 0, 10)))
    landed = committer.commit(prepared((0, 3, 12), (1, 0, 4)))
    assert isinstance(landed, Landed)
    assert landed.fenced == {at(0): 10}
    assert landed.ranges == {at(1): OffsetRange(0, 4)}
    assert stored(store) == {0: list(range(10)), 1: list(range(4))}


def test_same_buffer_lands_once(store: MemoryStore, committer: Committer) -> None:
    """A second call with the same commit-id finds the first."""
    buffer = prepared((0, 0, 3))
    first, second = committer.commit(buffer), committer.commit(buffer)
    assert isinstance(first, Landed)
    assert isinstance(second, Landed)
    assert second.snapshot_id == first.snapshot_id
    assert store.sent == 1


def test_landed_part_is_told_apart_from_the_fenced_part(
    store: MemoryStore, committer: Committer
) -> None:
    """Also when the landed attempt, found by its id, had gone without a partition."""
    committer.commit(prepared((0, 0, 10)))
    store.answers.append(Answer.TIMEOUT_AFTER_LANDING)
    landed = committer.commit(prepared((0, 0, 9), (1, 0, 4)))
    assert isinstance(landed, Landed)
    assert (landed.ranges, landed.fenced) == ({at(1): OffsetRange(0, 4)}, {at(0): 10})


@pytest.mark.parametrize("answer", list(Answer))
def test_every_answer_of_the_catalog_ends_with_rows_stored_once(
    store: MemoryStore, committer: Committer, answer: Answer
) -> None:
    """Whatever the catalog said and did, the rows are there once and no file is gone."""
    committer.commit(prepared((0, 0, 2)))
    before = files_on_disk(store)
    store.answers.append(answer)
    landed = committer.commit(prepared((0, 2, 6), (1, 0, 3)))
    store.land_late()
    assert isinstance(landed, Landed)
    assert stored(store) == {0: [0, 1, 2, 3, 4, 5], 1: [0, 1, 2]}
    assert seam_of(store.metadata) == {TOPIC: {0: 6, 1: 3}}
    assert before <= files_on_disk(store)
    assert {Path(m.manifest_path.removeprefix("file://")) for m in manifests(store)} <= (
        files_on_disk(store)
    )


def manifests(store: MemoryStore):  # type: ignore[no-untyped-def]
    head = store.metadata.current_snapshot()
    assert head is not None
    return head.manifests(PyArrowFileIO())


def test_commit_that_was_expired_before_the_look_is_not_sent_again(store: MemoryStore) -> None:
    """Its id is gone, but the head is past its range: drop and seek, landed or not."""
    buffer = prepared((0, 0, 4))
    store.answers.append(Answer.TIMEOUT_AFTER_LANDING)

    def others_commit_and_expire(point: str) -> None:
        if point == "writer.before_build" and store.sent == 1:
            Committer(store, TRADES, patience=AT_ONCE).commit(prepared((1, 0, 1)))
            store.expire()

    committer = Committer(store, TRADES, patience=AT_ONCE, points=others_commit_and_expire)
    assert committer.commit(buffer) == Fenced({at(0): 4})
    assert stored(store) == {0: [0, 1, 2, 3], 1: [0]}


def test_catalog_that_stays_away_leaves_the_outcome_open(store: MemoryStore) -> None:
    """The caller is told, and the same buffer is as good later."""
    committer = Committer(store, TRADES, patience=Patience(give_up_after_s=0))
    buffer = prepared((0, 0, 2))
    store.answers.append(Answer.TIMEOUT_AFTER_LANDING)
    with pytest.raises(UnavailableError):
        committer.commit(buffer)
    assert isinstance(committer.commit(buffer), Landed)
    assert stored(store) == {0: [0, 1]}


def test_writer_that_sleeps_before_it_sends_is_fenced(store: MemoryStore) -> None:
    """Its partition moved meanwhile: the compare-and-swap refuses, then the fence does."""

    def another_writer(point: str) -> None:
        if point == "writer.before_send" and store.sent == 0:
            Committer(store, TRADES, patience=AT_ONCE).commit(prepared((0, 0, 7)))

    committer = Committer(store, TRADES, patience=AT_ONCE, points=another_writer)
    assert committer.commit(prepared((0, 0, 4))) == Fenced({at(0): 7})
    assert stored(store) == {0: list(range(7))}


def test_points_are_announced_in_order(store: MemoryStore) -> None:
    """Fault tests hold the process at these names."""
    seen: list[str] = []
    Committer(store, TRADES, points=seen.append).commit(prepared((0, 0, 1)))
    assert seen == ["writer.before_build", "writer.before_send", "writer.after_commit"]


def test_lost_range_moves_the_offset_without_files(
    store: MemoryStore, committer: Committer
) -> None:
    """Retention overtook the writer: an explicit record, under the same fence."""
    landed = committer.commit(prepared((0, 0, 9), kind=Kind.LOST))
    assert isinstance(landed, Landed)
    assert seam_of(store.metadata) == {TOPIC: {0: 9}}
    assert summary_of(store)["k2.kind"] == "lost"
    assert summary_of(store)["k2.lost"] == f'{{"{TOPIC}":{{"0":[0,9]}}}}'
    assert committer.commit(prepared((0, 0, 9), kind=Kind.LOST)) == Fenced({at(0): 9})


def test_records_without_rows_are_passed_by(store: MemoryStore, committer: Committer) -> None:
    """A range may have no file: every record of it was dead-lettered."""
    landed = committer.commit(Prepared("c", {at(0): OffsetRange(0, 3)}))
    assert isinstance(landed, Landed)
    assert (landed.rows, seam_of(store.metadata)) == (0, {TOPIC: {0: 3}})


def test_tag_follows_each_commit(store: MemoryStore, committer: Committer) -> None:
    """So that no foreign expiry removes the last seam."""
    for start in range(3):
        landed = committer.commit(prepared((0, start, start + 1)))
        assert isinstance(landed, Landed)
        assert store.metadata.refs["k2-seam"].snapshot_id == landed.snapshot_id
        assert store.metadata.refs["k2-seam"].snapshot_ref_type is SnapshotRefType.TAG


def test_snapshot_time_never_goes_back(store: MemoryStore) -> None:
    """A clock that stepped back an hour gives the head's time and a millisecond."""
    head = head_of(store.metadata)
    first = plan_commit(head, prepared((0, 0, 1)), now_ms=5_000)
    assert isinstance(first, CommitPlan)
    assert first.timestamp_ms == 5_000
    Committer(store, TRADES).commit(prepared((0, 0, 1)))
    head = head_of(store.metadata)
    later = plan_commit(head, prepared((0, 1, 2)), now_ms=5_000)
    assert isinstance(later, CommitPlan)
    assert later.timestamp_ms == head.latest_ms + 1


def test_foreign_rewrite_inherits_the_seam(store: MemoryStore, committer: Committer) -> None:
    """Compaction by another tool changes no row."""
    committer.commit(prepared((0, 0, 3)))
    foreign(store, Operation.REPLACE)
    foreign(store, Operation.REPLACE)
    assert seam_of(store.metadata) == {TOPIC: {0: 3}}
    assert isinstance(committer.commit(prepared((0, 3, 4))), Landed)


@pytest.mark.parametrize("operation", [Operation.APPEND, Operation.DELETE, Operation.OVERWRITE])
def test_foreign_change_stops_the_writer(
    store: MemoryStore, committer: Committer, operation: Operation
) -> None:
    """Absent keys are never an empty map."""
    committer.commit(prepared((0, 0, 3)))
    foreign(store, operation)
    with pytest.raises(MissingSeamError):
        committer.commit(prepared((0, 3, 4)))


def test_rewrite_of_expired_snapshots_has_no_seam(store: MemoryStore, committer: Committer) -> None:
    """What lay between is not known any more: K2 does not guess."""
    committer.commit(prepared((0, 0, 3)))
    foreign(store, Operation.REPLACE)
    store.expire()
    with pytest.raises(MissingSeamError):
        seam_of(store.metadata)


def test_table_that_lost_its_head_has_no_seam(store: MemoryStore, committer: Committer) -> None:
    """Only a table that was never written to is empty."""
    committer.commit(prepared((0, 0, 3)))
    store.metadata = store.metadata.model_copy(
        update={"current_snapshot_id": None, "snapshots": [], "refs": {}}
    )
    with pytest.raises(MissingSeamError):
        seam_of(store.metadata)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"t":{"0":-1}}', '{"t":{"a":1}}', '{"t":3}'])
def test_damaged_seam_is_refused(text: str) -> None:
    """A seam that cannot be read is not an empty one."""
    with pytest.raises(MissingSeamError):
        decode_offsets(text)


def test_another_kafka_cluster_is_refused(committer: Committer) -> None:
    """Offsets of two logs never mix."""
    committer.commit(prepared((0, 0, 3), cluster_id="a"))
    with pytest.raises(ForeignLogError):
        committer.commit(prepared((0, 3, 4), cluster_id="b"))


def test_refused_and_found_are_decided_without_io(store: MemoryStore) -> None:
    """The plan alone tells a landed commit from a fenced one."""
    Committer(store, TRADES).commit(prepared((0, 0, 3), commit_id="mine"))
    head = head_of(store.metadata)
    assert isinstance(
        plan_commit(head, prepared((0, 0, 3), commit_id="mine"), now_ms=0), AlreadyLanded
    )
    assert plan_commit(head, prepared((0, 0, 3)), now_ms=0) == Refused({at(0): 3})


def test_file_outside_its_range_is_refused() -> None:
    """A row past what the commit covers would be read twice."""
    with pytest.raises(InvalidError):
        Prepared("c", {at(0): OffsetRange(0, 3)}, (made_up_file(0, 0, 3),))
    with pytest.raises(InvalidError):
        Prepared("c", {at(0): OffsetRange(0, 3)}, (made_up_file(1, 0, 2),))


@pytest.mark.parametrize("covered", [OffsetRange(3, 3), OffsetRange(4, 3), OffsetRange(-1, 3)])
def test_empty_range_is_refused(covered: OffsetRange) -> None:
    """A commit that covers nothing says nothing."""
    with pytest.raises(InvalidError):
        Prepared("c", {at(0): covered})


def test_totals_add_up(store: MemoryStore, committer: Committer) -> None:
    """Snapshot summaries count rows and files as other engines expect."""
    committer.commit(prepared((0, 0, 3)))
    committer.commit(prepared((0, 3, 10), (1, 0, 2)))
    summary = summary_of(store)
    assert [summary["added-records"], summary["total-records"]] == ["9", "12"]
    assert [summary["added-data-files"], summary["total-data-files"]] == ["2", "3"]
