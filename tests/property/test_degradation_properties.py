"""The level ladder keeps its promises for any sequence of readings."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libs.degradation.level import (
    LAG_THRESHOLDS,
    MEMORY_THRESHOLDS,
    Damping,
    Level,
    Rules,
    Thresholds,
)
from libs.degradation.machine import (
    Ladder,
    Policy,
    Reading,
    cooldown_s,
    lag_policy,
    memory_policy,
    step,
)

COOLDOWN_S = 30.0
LAG = lag_policy(Rules())
MEMORY = memory_policy(Rules())

gaps_s = st.floats(0.1, 12.0)
lags = st.one_of(st.none(), st.integers(0, 8_000_000).map(float))
shares = st.one_of(st.none(), st.floats(0.0, 1.2))
baselines = st.floats(0.0, 1.0)
Run = list[tuple[float, float | None]]


def runs(values: st.SearchStrategy[float | None]) -> st.SearchStrategy[Run]:
    """Readings at random, or some that stay for a while: without those no level is ever left."""
    stays = st.tuples(st.floats(0.5, 4.9), values, st.integers(1, 40))
    return st.one_of(
        st.lists(st.tuples(gaps_s, values), max_size=150),
        st.lists(stays, max_size=8).map(
            lambda some: [(gap_s, value) for gap_s, value, times in some for _ in range(times)]
        ),
    )


lag_runs, memory_runs = runs(lags), runs(shares)


def walked(
    policy: Policy, run: Run, *, baseline: float = 0.0, start: Ladder | None = None
) -> list[tuple[float, Ladder]]:
    """Every state with its time, the start first."""
    states = [(0.0, start or Ladder())]
    for gap_s, value in run:
        now_s, ladder = states[-1]
        after_s = now_s + gap_s
        states.append((after_s, step(ladder, Reading(value, baseline), policy, after_s)))
    return states


@given(memory_runs, baselines)
def test_memory_level_is_never_below_what_the_reading_demands(run: Run, baseline: float) -> None:
    """Memory rises at once, wherever it rested."""
    for (_, value), (_, ladder) in zip(
        run, walked(MEMORY, run, baseline=baseline)[1:], strict=True
    ):
        if value is not None:
            assert ladder.level >= MEMORY_THRESHOLDS.demanded(value)


@given(lag_runs)
def test_lag_level_is_never_below_what_two_readings_demand(run: Run) -> None:
    """The lower of the newest two known demands is reached."""
    demands: list[Level] = []
    for (_, value), (_, ladder) in zip(run, walked(LAG, run)[1:], strict=True):
        if value is not None:
            demands.append(LAG_THRESHOLDS.demanded(value))
        if len(demands) > 1:
            assert ladder.level >= min(demands[-2:])


@given(lag_runs)
def test_lag_level_is_never_above_every_reading_so_far(run: Run) -> None:
    """No level comes from nowhere."""
    known = [value for _, value in run if value is not None]
    highest = max((LAG_THRESHOLDS.demanded(value) for value in known), default=Level.NORMAL)
    assert all(ladder.level <= highest for _, ladder in walked(LAG, run))


@given(memory_runs, baselines)
def test_a_step_down_is_one_level_and_one_per_cooldown(run: Run, baseline: float) -> None:
    """Steps down are single, and at least a cooldown apart."""
    states = walked(MEMORY, run, baseline=baseline)
    falls_s = []
    for (_, before), (now_s, after) in pairwise(states):
        if after.level < before.level:
            assert after.level == before.level - 1
            falls_s.append(now_s)
    assert all(later - earlier >= COOLDOWN_S for earlier, later in pairwise(falls_s))


@given(memory_runs, baselines)
def test_a_step_down_follows_unbroken_rest(run: Run, baseline: float) -> None:
    """For a whole cooldown every reading was there, was below, and none was long in coming."""
    states = walked(MEMORY, run, baseline=baseline)
    for index in range(1, len(states)):
        (now_s, after), (_, before) = states[index], states[index - 1]
        if after.level < before.level:
            point = MEMORY.recovery_point(before.level, baseline)
            window = [
                (gap_s, value)
                for (gap_s, value), (time_s, _) in zip(run, states[1:], strict=True)
                if now_s - COOLDOWN_S <= time_s <= now_s
            ]
            assert all(value is not None and value < point for _, value in window)


@given(lag_runs)
def test_missing_data_never_lowers(run: Run) -> None:
    """A reading without a value leaves the level where it is, and the rest starts again."""
    states = walked(LAG, run)
    for (_, value), (_, before), (_, after) in zip(run, states, states[1:], strict=False):
        if value is None:
            assert after.level is before.level
            assert after.below_since_s is None


@given(lag_runs, st.floats(0, 49_000))
def test_lag_at_rest_comes_back_to_normal_in_bounded_time(run: Run, rest: float) -> None:
    """From any state, at most four cooldowns of four times the length, and a reading."""
    now_s, ladder = walked(LAG, run)[-1]
    bound_s = 4 * Damping().most_cooldown_factor * COOLDOWN_S + 5
    end = walked(LAG, [(1.0, rest)] * int(bound_s), start=_at_zero(ladder, now_s))[-1][1]
    assert end.level is Level.NORMAL


@given(memory_runs, st.floats(0.0, 0.69))
def test_memory_back_at_its_baseline_comes_back_to_normal(run: Run, baseline: float) -> None:
    """A process that never goes below its baseline recovers all the same."""
    now_s, ladder = walked(MEMORY, run, baseline=baseline)[-1]
    bound_s = 4 * Damping().most_cooldown_factor * COOLDOWN_S + 5
    rest: Run = [(1.0, baseline)] * int(bound_s)
    end = walked(MEMORY, rest, baseline=baseline, start=_at_zero(ladder, now_s))[-1][1]
    assert end.level is Level.NORMAL


@given(lag_runs)
def test_cooldown_is_between_one_and_four_times_its_length(run: Run) -> None:
    """Reversals double it, and only up to four times."""
    for now_s, ladder in walked(LAG, run):
        assert (
            COOLDOWN_S
            <= cooldown_s(ladder, LAG, now_s)
            <= Damping().most_cooldown_factor * COOLDOWN_S
        )


@given(
    st.sampled_from(list(Level)[1:]),
    st.lists(st.floats(0.001, 1e6), min_size=4, max_size=4, unique=True).map(sorted),
    st.floats(0.0, 1e6),
)
def test_recovery_point_is_never_above_the_trigger(
    level: Level, triggers: list[float], baseline: float
) -> None:
    """Else a level would fall on a reading that demands it."""
    thresholds = Thresholds(*triggers)
    assert Policy(thresholds, 1, COOLDOWN_S).recovery_point(level, baseline) <= thresholds.trigger(
        level
    )


def _at_zero(ladder: Ladder, now_s: float) -> Ladder:
    """The same state at time 0, reversals as recent as they can be."""
    return Ladder(
        ladder.level,
        ladder.demands,
        read_at_s=None,
        reversals_s=tuple(
            max(time_s - now_s, -Damping().reversal_window_s) for time_s in ladder.reversals_s
        ),
    )
