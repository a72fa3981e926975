"""What backfill works on, and when retention leaves no choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.degradation.level import Level
from libs.kafka.admin import Retention
from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.ledger import Ledger, PartitionBook, Shed
from services.writer.backfill.plan import (
    ALARM_AT,
    LEAST_PIECE_RECORDS,
    PIECE_POSITIONS,
    PIECE_RECORDS,
    URGENT_AT,
    Debt,
    LogSight,
    Pace,
    State,
    Times,
    debts_of,
    forgotten,
    next_piece,
    spared,
    state_of,
    used_of,
)

P1, P2 = TopicPartition("trades", 1), TopicPartition("trades", 2)
NOW_US = 1_800_000_000_000_000
HOUR_MS = 3_600_000


def shed(start: int, end: int, *, age_s: float = 0.0, symbols: tuple[str, ...] = ("A",)) -> Shed:
    return Shed(start, end, ("low",), "p@1", symbols, end - start, NOW_US - round(age_s * 1e6))


sheds = st.builds(
    shed, st.integers(0, 10**7), st.integers(10**7 + 1, 2 * 10**7), age_s=st.floats(0, 10**6)
)
debts = st.builds(
    Debt,
    st.sampled_from([P1, P2]),
    sheds,
    age_s=st.floats(0, 10**6),
    used=st.floats(0, 2),
)
moments = st.builds(
    Times,
    st.sampled_from(list(Level)),
    st.booleans(),
    st.just(frozenset({P1, P2})),
    st.sets(st.sampled_from([P1, P2])).map(frozenset),
)
limits = st.none() | st.integers(1, 10**12)


@given(st.lists(debts), moments)
def test_what_is_chosen_may_be_worked_now(owed: list[Debt], times: Times) -> None:
    """Of a partition that is read; short of NORMAL only what is urgent, and little of it."""
    piece = next_piece(owed, times)
    at_ease = times.level is Level.NORMAL and not times.busy
    workable = [d for d in owed if d.position in times.placed and (at_ease or d.urgent)]
    assert (piece is None) == (not workable)
    if piece is None:
        return
    assert any(
        d.position == piece.position and d.shed.start == piece.start and piece.end <= d.shed.end
        for d in workable
    )
    assert piece.start < piece.end <= piece.start + PIECE_POSITIONS
    assert piece.most_records == (PIECE_RECORDS if at_ease else LEAST_PIECE_RECORDS)
    most_used = max(d.used for d in workable)
    if most_used >= URGENT_AT:
        assert any(d.shed.start == piece.start and d.used == most_used for d in workable)


@given(debts, moments)
def test_a_state_says_why_nothing_is_done_or_why_it_must_be(debt: Debt, times: Times) -> None:
    """WORKING, URGENT and ALARM are worked; the others are not."""
    state = state_of(debt, times)
    worked = next_piece([debt], times) is not None
    assert worked == (state in (State.WORKING, State.URGENT, State.ALARM))
    assert (state is State.ALARM) == (debt.used >= ALARM_AT and debt.position in times.placed)
    assert spared([debt]) == ({"trades"} if debt.used >= ALARM_AT else set())


@given(st.floats(0, 10**9), st.floats(0, 10**15), limits, limits)
def test_retention_is_used_as_the_nearer_of_both_says(
    age_s: float, size_bytes: float, ms: int | None, most_bytes: int | None
) -> None:
    """It grows with age and size, reaches 1 where the log may forget, and never without a limit."""
    used = used_of(age_s, size_bytes, Retention(ms, most_bytes))
    may_forget = bool(ms and age_s * 1000 >= ms) or bool(most_bytes and size_bytes >= most_bytes)
    assert (used >= 1) == may_forget
    assert used_of(age_s * 2, size_bytes * 2, Retention(ms, most_bytes)) >= used
    assert used_of(age_s, size_bytes, Retention()) == 0


@given(st.lists(sheds, max_size=4), st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_range_is_as_old_as_its_first_record(
    found: list[Shed], appended_ms: int, hours: int
) -> None:
    """Where that was seen; until then since it was put off. The oldest come first."""
    ledger = Ledger({P1: PartitionBook(shed=tuple(found))})
    dates = {found[0].start: appended_ms} if found else {}
    sight = LogSight(0, 3 * 10**7, 100.0, dates)
    retention = {"trades": Retention(hours * HOUR_MS)}
    owed = debts_of(ledger, {P1: sight}, retention, NOW_US)
    assert [d.age_s for d in owed] == sorted((d.age_s for d in owed), reverse=True)
    for debt in owed:
        began_ms = dates.get(debt.shed.start, debt.shed.at_us // 1000)
        assert debt.age_s == NOW_US / 1e6 - began_ms / 1e3
        assert debt.used == pytest.approx(debt.age_s / (hours * 3600))


def test_bytes_are_estimated_from_the_range_to_the_end() -> None:
    """Retention keeps the newest bytes: what stands behind a range counts."""
    ledger = Ledger({P1: PartitionBook(shed=(shed(100, 200),))})
    (debt,) = debts_of(
        ledger, {P1: LogSight(0, 1_100, 50.0)}, {"trades": Retention(None, 100_000)}, NOW_US
    )
    assert debt.used == 0.5


@given(st.lists(debts), st.integers(0, 3 * 10**7))
def test_what_the_log_forgot_is_given_up_and_no_more(owed: list[Debt], log_start: int) -> None:
    """Below its start, within an open range."""
    sights = {P1: LogSight(log_start, 3 * 10**7)}
    found = forgotten(owed, sights)
    gone = [d for d in owed if d.position == P1 and d.shed.start < log_start]
    assert found.keys() == ({P1} if gone else set())
    for start, end in found.values():
        assert start < end <= log_start
        assert any(d.shed.start == start and end <= d.shed.end for d in gone)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.booleans()), min_size=1))
def test_the_pace_keeps_its_rates(pieces: list[tuple[int, bool]]) -> None:
    """Over any pieces, each after the wait for the one before."""
    pace, now_s, owed_s = Pace(50_000, 5_000), 0.0, 0.0
    for records, at_ease in pieces:
        pace = pace.after(records, at_ease=at_ease, now_s=now_s)
        owed_s += records / (50_000 if at_ease else 5_000)
        now_s += pace.wait_s(now_s)
        assert pace.wait_s(now_s) == 0
    assert abs(now_s - owed_s) < 1e-6 * max(1.0, owed_s)
