"""Several writers, an owner of partitions that changes at will, and a catalog that misbehaves."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from libs.lake.commits.commit import (
    AlreadyLanded,
    CommitPlan,
    Head,
    Kind,
    Overlap,
    Prepared,
    Refused,
    Totals,
    plan_commit,
)
from libs.lake.commits.committer import Committer, Fenced, Landed, Patience
from libs.lake.commits.seam import (
    OffsetRange,
    TopicPartition,
    decode_offsets,
    decode_ranges,
    encode_offsets,
    encode_ranges,
    offset_at,
    seam_of,
)
from libs.lake.table.tables import TRADES
from libs.market.errors import ConflictError, UnavailableError
from tests.support.lake import TOPIC, Answer, MemoryStore, made_up_file, offsets_of

PARTITIONS = range(2)
WRITERS = range(3)

partitions = st.builds(
    TopicPartition, st.sampled_from([TOPIC, "market.crypto.trades.kraken"]), st.integers(0, 3)
)
ranges = st.builds(
    lambda start, count: OffsetRange(start, start + count), st.integers(0, 5), st.integers(1, 5)
)
batches = st.dictionaries(st.sampled_from(PARTITIONS), st.integers(1, 4), min_size=1)
kinds = st.sampled_from([Kind.APPEND, Kind.APPEND, Kind.LOST])
catalog_answers = st.lists(st.sampled_from(Answer), max_size=3)
seams = st.dictionaries(
    st.text(min_size=1), st.dictionaries(st.integers(0, 1 << 15), st.integers(0, 1 << 62))
)


@dataclass
class Writer:
    """One writer: what it would fetch next, and the buffer it holds."""

    committer: Committer
    positions: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    buffer: Prepared | None = None


class WritersAndCatalog(RuleBasedStateMachine):
    """Whatever happens, every offset below the seam is stored or recorded lost, once."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="k2-lake-"))
        self.store = MemoryStore(self.folder)
        patience = Patience(give_up_after_s=0.2, sleep=lambda _s: None)
        self.writers = [Writer(Committer(self.store, TRADES, patience=patience)) for _ in WRITERS]
        self.lost: set[tuple[int, int]] = set()
        self.seen: set[Path] = set()
        self.commits = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(who=st.sampled_from(WRITERS), counts=batches, kind=kinds)
    def fetch(self, who: int, counts: dict[int, int], kind: Kind) -> None:
        writer = self.writers[who]
        if writer.buffer is None:
            writer.buffer = self.batch(writer.positions, counts, kind)

    @rule(who=st.sampled_from(WRITERS), counts=batches, kind=kinds, answers=catalog_answers)
    def commit(self, who: int, counts: dict[int, int], kind: Kind, answers: list[Answer]) -> None:
        writer = self.writers[who]
        buffer = writer.buffer or self.batch(writer.positions, counts, kind)
        writer.buffer = buffer
        self.store.answers.extend(answers)
        with contextlib.suppress(ConflictError, UnavailableError):
            outcome = writer.committer.commit(buffer)
            assert not isinstance(outcome, Overlap)
            self.settle(writer, outcome)
        self.store.answers.clear()

    def batch(self, positions: dict[int, int], counts: dict[int, int], kind: Kind) -> Prepared:
        self.commits += 1
        covered = {p: OffsetRange(positions[p], positions[p] + n) for p, n in counts.items()}
        files = [made_up_file(p, extent.start, extent.end - 1) for p, extent in covered.items()]
        return Prepared(
            commit_id=f"commit-{self.commits}",
            ranges={TopicPartition(TOPIC, p): extent for p, extent in covered.items()},
            files=tuple(files) if kind is Kind.APPEND else (),
            kind=kind,
        )

    def settle(self, writer: Writer, outcome: Landed | Fenced) -> None:
        fenced = outcome.offsets if isinstance(outcome, Fenced) else outcome.fenced
        if isinstance(outcome, Landed):
            for (_, partition), covered in outcome.ranges.items():
                writer.positions[partition] = covered.end
        for (_, partition), offset in fenced.items():
            writer.positions[partition] = offset
        writer.buffer = None

    @rule(who=st.sampled_from(WRITERS))
    def crash_and_restart(self, who: int) -> None:
        writer = self.writers[who]
        seam = seam_of(self.store.metadata)
        writer.buffer = None
        writer.positions = {p: offset_at(seam, TopicPartition(TOPIC, p)) for p in PARTITIONS}

    @rule()
    def late_requests_arrive(self) -> None:
        self.store.land_late()

    @rule(keep=st.integers(1, 3))
    def expire(self, keep: int) -> None:
        self.note_lost()
        self.store.expire(keep=keep)

    def note_lost(self) -> None:
        for snapshot in self.store.metadata.snapshots:
            assert snapshot.summary is not None
            for (_, p), covered in decode_ranges(snapshot.summary["k2.lost"] or "{}").items():
                self.lost |= {(p, offset) for offset in range(covered.start, covered.end)}

    @invariant()
    def every_offset_below_the_seam_is_there_once(self) -> None:
        if not hasattr(self, "store"):
            return
        self.note_lost()
        seam = seam_of(self.store.metadata)
        stored = [
            (partition, offset)
            for partition, offsets in map(offsets_of, self.store.live_files())
            for offset in offsets
        ]
        accounted = sorted([*stored, *self.lost])
        assert accounted == sorted(
            (p, offset)
            for p in PARTITIONS
            for offset in range(offset_at(seam, TopicPartition(TOPIC, p)))
        )

    @invariant()
    def no_file_is_ever_deleted(self) -> None:
        if not hasattr(self, "store"):
            return
        there = {path for path in self.folder.rglob("*") if path.is_file()}
        assert self.seen <= there
        self.seen = there

    @invariant()
    def time_and_sequence_go_forward(self) -> None:
        if not hasattr(self, "store"):
            return
        kept = self.store.metadata.snapshots
        times = [snapshot.timestamp_ms for snapshot in kept]
        assert times == sorted(set(times))


WritersAndCatalog.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
)
TestWritersAndCatalog = WritersAndCatalog.TestCase


@settings(deadline=None)
@given(
    covered=st.dictionaries(partitions, ranges, min_size=1),
    taken=st.dictionaries(partitions, st.integers(0, 6)),
)
def test_plan_takes_exactly_the_partitions_whose_fence_holds(
    covered: dict[TopicPartition, OffsetRange], taken: dict[TopicPartition, int]
) -> None:
    """No range is sent that the head does not end where it starts, and none is forgotten."""
    seam: dict[str, dict[int, int]] = {}
    for (topic, partition), offset in taken.items():
        seam.setdefault(topic, {})[partition] = offset
    head = Head(1, seam, "", Totals(0, 0, 0), 1, 0, {})
    plan = plan_commit(head, Prepared("c", covered), now_ms=1)
    assert not isinstance(plan, AlreadyLanded | Overlap)
    valid = {at for at, extent in covered.items() if taken.get(at, 0) == extent.start}
    assert set(plan.fenced) == set(covered) - valid
    assert isinstance(plan, Refused if not valid else CommitPlan)
    if isinstance(plan, CommitPlan):
        assert set(plan.ranges) == valid
        for at in {*covered, *taken}:
            expected = covered[at].end if at in valid else taken.get(at, 0)
            assert offset_at(plan.seam, at) == expected


@settings(deadline=None)
@given(seams)
def test_seam_survives_the_summary(seam: dict[str, dict[int, int]]) -> None:
    """What a snapshot says of offsets is what was meant."""
    assert decode_offsets(encode_offsets(seam)) == seam


@settings(deadline=None)
@given(st.dictionaries(partitions, ranges))
def test_ranges_survive_the_summary(covered: dict[TopicPartition, OffsetRange]) -> None:
    """The same for lost and covered ranges."""
    assert decode_ranges(encode_ranges(covered)) == covered
