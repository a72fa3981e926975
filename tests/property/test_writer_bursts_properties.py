"""Whatever comes of a partition: a burst is held whole, poison is not, and nothing is skipped."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.kafka.admin import Retention
from services.writer.intake.bursts import Batch, BurstRule, Bursts, Verdict
from services.writer.intake.holds import Hold

P = ("trades", 3)
RULE = BurstRule(records=10, share=0.5)
# Records in a batch, and how many of them are broken.
batches = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda n: (max(n), min(n)))
isolated = st.tuples(st.integers(3, 30), st.just(1))


@dataclass
class Reader:
    """Takes what the verdicts say, as the batcher and the consumer do; positions are records."""

    bursts: Bursts
    at: int = 0
    committed: int = 0
    taken: list[tuple[int, int]] = field(default_factory=list)

    def read(self, records: int, broken: int) -> Verdict:
        batch = Batch(P, 1, self.at, self.at + max(records, 1), records, broken)
        watched, verdict = self.bursts.judge(batch)
        assert self.bursts.judge(batch) == (watched, verdict)
        self.bursts.note(P, watched)
        if verdict is Verdict.HOLD:
            assert watched.held_at is not None
            self.taken = [span for span in self.taken if span[0] < watched.held_at]
            self.at = watched.held_at
        elif verdict is not Verdict.IGNORE:
            self.taken.append((batch.start, batch.following))
            self.at = batch.following
        return verdict

    def flush(self) -> None:
        self.bursts.flushed()
        self.committed = self.at


@given(st.lists(st.one_of(batches, st.none()), max_size=60))
def test_what_is_taken_is_an_unbroken_chain(script: list[tuple[int, int] | None]) -> None:
    """No hold goes back behind what is on its way into the table, and none leaves a gap."""
    reader = Reader(Bursts(RULE))
    for step in script:
        if step is None:
            reader.flush()
        else:
            reader.read(*step)
        ends = [0, *(end for _, end in reader.taken)]
        assert [start for start, _ in reader.taken] == ends[:-1]
        assert reader.committed <= reader.at == ends[-1]


@given(st.lists(isolated, max_size=80))
def test_poison_alone_is_never_held(script: list[tuple[int, int]]) -> None:
    """However much of it comes in the end: less than half of any batch is broken."""
    reader = Reader(Bursts(RULE))
    assert {reader.read(*step) for step in script} <= {Verdict.TAKE}


@given(st.integers(1, 30), st.booleans())
def test_a_burst_is_held_from_its_first_batch_on(size: int, flushes: bool) -> None:
    """In batches of any size; what was committed before it showed stays dead-lettered."""
    reader = Reader(Bursts(RULE))
    reader.read(50, 0)
    broken = 0
    while (verdict := reader.read(size, size)) is Verdict.TAKE:
        broken += size
        if flushes:
            reader.flush()
    assert verdict is Verdict.HOLD
    assert broken < RULE.records
    assert reader.at == (50 + broken if flushes else 50)


@given(st.integers(1, 40), st.lists(batches, max_size=10))
def test_a_held_partition_goes_on_only_where_it_is_held(
    size: int, fetched_before: list[tuple[int, int]]
) -> None:
    """What was fetched beyond the hold is ignored; a probe of any size must read by half."""
    reader = Reader(Bursts(RULE))
    while reader.read(5, 5) is not Verdict.HOLD:
        continue
    held_at = reader.at
    for records, broken in fetched_before:
        late = Batch(P, 1, held_at + 5, held_at + 5 + max(records, 1), records, broken)
        assert reader.bursts.judge(late)[1] is Verdict.IGNORE
    assert reader.read(size, size) is Verdict.HOLD
    assert reader.read(2 * size, size - 1) is Verdict.RELEASE
    assert reader.read(5, 0) is Verdict.TAKE


def test_what_is_accepted_is_taken_and_what_comes_after_is_judged_anew() -> None:
    """An accepted burst ends where the log ended when it was accepted."""
    reader = Reader(Bursts(RULE))
    while reader.read(5, 5) is not Verdict.HOLD:
        continue
    reader.bursts.accept(P, 1, until=reader.at + 20)
    assert [reader.read(10, 10) for _ in range(2)] == [Verdict.TAKE] * 2
    assert reader.read(10, 10) is Verdict.HOLD


def test_a_new_placing_is_judged_anew() -> None:
    """Another generation has no streak, and no hold."""
    bursts = Bursts(RULE)
    verdicts = []
    for batch in (Batch(P, 1, 0, 10, 10, 10), Batch(P, 2, 0, 9, 9, 9), Batch(P, 2, 9, 10, 1, 1)):
        watched, verdict = bursts.judge(batch)
        bursts.note(P, watched)
        verdicts.append(verdict)
    assert verdicts == [Verdict.HOLD, Verdict.TAKE, Verdict.HOLD]


NOW_US = 10_000_000_000
HELD = Hold(P, 1, 100, 10, "FRAMING", appended_ms=NOW_US // 1000 - 4_000, bytes_per_position=10)


@pytest.mark.parametrize(
    ("retention", "log_end", "outlived"),
    [
        (Retention(), 1_000_000, False),
        (Retention(ms=8_001), 100, False),
        (Retention(ms=8_000), 100, True),
        (Retention(bytes=2_000), 199, False),
        (Retention(bytes=2_000), 200, True),
        (Retention(ms=80_000, bytes=2_000), 200, True),
        (Retention(bytes=2_000), None, False),
    ],
)
def test_a_hold_ends_at_half_of_the_retention(
    retention: Retention, log_end: int | None, *, outlived: bool
) -> None:
    """In time or in bytes, whichever comes first; a log kept for ever keeps what is held."""
    assert HELD.outlived(retention, log_end=log_end, now_us=NOW_US) is outlived
