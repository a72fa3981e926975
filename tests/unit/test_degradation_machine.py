"""The level ladder at its edges."""

from __future__ import annotations

import pytest

from libs.degradation.level import LAG_THRESHOLDS, Level, Rules, Thresholds
from libs.degradation.machine import (
    Ladder,
    Reading,
    cooldown_s,
    falls_at_s,
    lag_policy,
    memory_policy,
    step,
)
from libs.market.errors import ConfigError

LAG = lag_policy(Rules())
MEMORY = memory_policy(Rules())


def after(ladder: Ladder, *readings: tuple[float, float | None]) -> Ladder:
    for now_s, value in readings:
        ladder = step(ladder, Reading(value), LAG, now_s)
    return ladder


def rested(ladder: Ladder, start_s: int, seconds: int) -> Ladder:
    return after(ladder, *((float(start_s + second), 0.0) for second in range(seconds + 1)))


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (99_999, Level.NORMAL),
        (100_000, Level.SOFT),
        (500_000, Level.GRACEFUL),
        (1_000_000, Level.AGGRESSIVE),
        (5_000_000, Level.CIRCUIT_BREAK),
    ],
)
def test_a_trigger_is_reached_by_its_own_value(value: float, level: Level) -> None:
    """The thresholds of the design, to the record."""
    assert LAG_THRESHOLDS.demanded(value) is level


def test_lag_rises_with_its_second_reading_and_to_what_both_demand() -> None:
    """One reading is a blip; two are lag."""
    once = after(Ladder(), (0, 6_000_000))
    assert once.level is Level.NORMAL
    assert after(once, (0.4, 600_000)).level is Level.GRACEFUL


def test_memory_rises_with_its_first_reading() -> None:
    """Memory does not wait."""
    assert step(Ladder(), Reading(0.96), MEMORY, 0).level is Level.CIRCUIT_BREAK


def test_level_falls_one_step_per_thirty_seconds_of_rest() -> None:
    """AGGRESSIVE takes a minute and a half to NORMAL."""
    ladder = Ladder(Level.AGGRESSIVE)
    levels: dict[Level, int] = {}
    for second in range(95):
        ladder = step(ladder, Reading(0.0), LAG, float(second))
        levels.setdefault(ladder.level, second)
    assert levels == {
        Level.AGGRESSIVE: 0,
        Level.GRACEFUL: 30,
        Level.SOFT: 60,
        Level.NORMAL: 90,
    }


def test_value_between_recovery_point_and_trigger_holds_the_level() -> None:
    """60,000 is no SOFT, and no recovery from it."""
    ladder = Ladder(Level.SOFT)
    for second in range(300):
        ladder = step(ladder, Reading(60_000), LAG, float(second))
    assert ladder.level is Level.SOFT


def test_missing_reading_starts_the_rest_again() -> None:
    """Nobody knows what happened meanwhile."""
    ladder = rested(Ladder(Level.SOFT), 0, 29)
    ladder = after(ladder, (29.5, None))
    assert rested(ladder, 30, 29).level is Level.SOFT
    assert rested(ladder, 30, 30).level is Level.NORMAL


def test_silence_of_the_sampler_starts_the_rest_again() -> None:
    """Two low readings a minute apart are not a minute of rest."""
    assert after(Ladder(Level.SOFT), (0, 0), (60, 0)).level is Level.SOFT


def test_memory_recovers_half_way_to_its_baseline() -> None:
    """Baseline 50 %: SOFT ends below 60 %, which half of the trigger would never see."""
    ladder = Ladder(Level.SOFT)
    for second in range(31):
        ladder = step(ladder, Reading(0.59, baseline=0.5), MEMORY, float(second))
    assert ladder.level is Level.NORMAL


def test_four_reversals_in_ten_minutes_double_the_cooldown() -> None:
    """And eight make it four times; ten quiet minutes later it is what it was."""
    ladder, now_s, cooldowns = Ladder(Level.SOFT), 0, []
    for _ in range(9):
        rest_s = int(cooldown_s(ladder, LAG, now_s))
        cooldowns.append(rest_s)
        ladder = rested(ladder, now_s, rest_s)
        assert ladder.level is Level.NORMAL
        ladder = after(ladder, (now_s + rest_s + 1, 200_000), (now_s + rest_s + 2, 200_000))
        now_s += rest_s + 3
    assert cooldowns == [30, 30, 30, 30, 60, 60, 60, 60, 120]
    assert cooldown_s(ladder, LAG, now_s + 600) == 30


def test_first_rise_is_no_reversal() -> None:
    """Up, further up: nothing has flapped."""
    ladder = after(Ladder(), (0, 200_000), (1, 200_000), (2, 600_000), (3, 600_000))
    assert ladder.level is Level.GRACEFUL
    assert ladder.reversals_s == ()


def test_next_step_down_is_told() -> None:
    """Known while resting, else not."""
    assert falls_at_s(Ladder(Level.SOFT), LAG, 5) is None
    assert falls_at_s(after(Ladder(Level.SOFT), (5, 0)), LAG, 5) == 35


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,x", "4,3,2,1", "0,1,2,3", "1,1,2,3"])
def test_thresholds_that_make_no_sense_are_refused(text: str) -> None:
    """Four rising positive numbers, or a ConfigError."""
    with pytest.raises(ConfigError):
        Thresholds.parse(text)


def test_thresholds_read_what_they_print() -> None:
    """So that a setting can be copied from a log."""
    assert Thresholds.parse(str(LAG_THRESHOLDS)) == LAG_THRESHOLDS
