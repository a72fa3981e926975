"""What the governor measures and asks for stays within bounds, whatever it reads."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from services.governor.deciding.replicas import Scale, ScaleRules, Work, scaled
from services.governor.observing.flow import Flow, on
from services.governor.observing.lag import (
    GroupLag,
    LogBounds,
    Look,
    Looks,
    PartitionLag,
    Reported,
    group_lag,
)

PLACE = ("t", 0)
KEEP_S = 2.5
steps = st.tuples(st.floats(0.05, 1.0), st.integers(0, 200_000))
walks = st.lists(steps, min_size=1, max_size=20)


def walked(walk: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The log's end by time, growing."""
    times = accumulate(gap_s for gap_s, _ in walk)
    return list(zip(times, accumulate(grown for _, grown in walk), strict=True))


@given(walks, st.floats(-1, 25))
def test_end_at_any_moment_lies_between_those_around_it(
    walk: list[tuple[float, int]], at_s: float
) -> None:
    """Never past the newest, and never before the last one that was there by then."""
    looks = Looks(())
    for now_s, end in walked(walk):
        looks = looks.and_then(Look(now_s, {PLACE: LogBounds(0, end)}), keep_s=KEEP_S)
    found = looks.end_at(PLACE, at_s)
    newest = looks.newest.bounds[PLACE].end
    by_then = [look.bounds[PLACE].end for look in looks.looks if look.at_s <= at_s]
    assert found <= newest
    assert found >= max(by_then, default=0)


@given(walks, st.integers(0, 20), st.integers(0, 3_000_000), st.booleans())
def test_lag_is_never_more_than_what_the_log_holds(
    walk: list[tuple[float, int]], ago: int, position: int, spoken_for: bool
) -> None:
    """Nor less than nothing; at the end of the log there is none."""
    ends = walked(walk)
    looks = Looks(())
    for now_s, end in ends:
        looks = looks.and_then(Look(now_s, {PLACE: LogBounds(10, end + 10)}), keep_s=KEEP_S)
    at_s = ends[max(0, len(ends) - 1 - ago)][0]
    reported = {PLACE: Reported(position, at_s)} if spoken_for else {}
    committed = {} if spoken_for else {PLACE: position}
    newest = looks.newest.bounds[PLACE]
    assert 0 <= group_lag("g", looks, committed, reported).lag <= newest.end - newest.begin
    caught_up = {PLACE: Reported(newest.end, at_s)}
    assert group_lag("g", looks, {}, caught_up).lag == 0


readings = st.tuples(st.integers(0, 500_000), st.integers(0, 3_000_000), st.integers(0, 20))


@given(st.lists(readings, max_size=60), st.integers(1, 16), st.booleans(), st.booleans())
def test_writers_wanted_are_at_least_one_and_at_most_the_partitions(
    history: list[tuple[int, int, int]], partitions: int, behind: bool, hindered: bool
) -> None:
    """And no more than there were while more would not help."""
    scale, flow, end = Scale(), Flow(), 0
    rules = ScaleRules(up_after_s=2, down_after_s=4)
    for second, (grown, lag, writers) in enumerate(history):
        end += grown
        group = GroupLag("g", (PartitionLag(*PLACE, lag, 0, live=True),), known=True, log_end=end)
        flow = on(flow, group, float(second), normal=True)
        why = "it would not help" if hindered else ""
        work = Work(flow, lag, writers, partitions, behind, shedding=False, hindered=why)
        before, scale = scale, scaled(scale, work, rules, float(second))
        assert 1 <= scale.desired <= partitions
        if hindered and before.capacity_per_s is not None:
            assert scale.desired <= before.desired
