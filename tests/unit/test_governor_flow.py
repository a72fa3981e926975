"""How fast a log grows and is decoded, from readings a third of a second apart."""

from __future__ import annotations

import pytest

from libs.degradation.level import Cause
from services.governor.observing.flow import USUAL_OVER_S, Flow, on
from services.governor.observing.lag import GroupLag, PartitionLag

STEP_S = 0.3


def group(end: int, lag: int, *, known: bool = True) -> GroupLag:
    return GroupLag("g", (PartitionLag("t", 0, lag, 0),), known=known, log_end=end)


class World:
    """A log that grows and a group that decodes, at rates of the test's choosing."""

    def __init__(self) -> None:
        self.flow, self.now_s, self.end, self.lag = Flow(), 0.0, 0.0, 0.0

    def run(self, seconds: float, produced: float, decoded: float, *, normal: bool = True) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.end += produced * STEP_S
            self.lag = max(0.0, self.lag + (produced - decoded) * STEP_S)
            reading = group(round(self.end), round(self.lag))
            self.flow = on(self.flow, reading, self.now_s, normal=normal)


def test_rates_are_of_the_last_ten_seconds() -> None:
    """And not known before half of them have passed."""
    world = World()
    world.run(4, 1_000, 1_000)
    assert world.flow.rates is None
    world.run(20, 3_000, 1_000)
    assert world.flow.rates is not None
    assert world.flow.rates.produced == pytest.approx(3_000, rel=0.01)
    assert world.flow.rates.decoded == pytest.approx(1_000, rel=0.01)


def test_least_lag_is_that_of_the_whole_window() -> None:
    """One moment at rest, and the group was not behind all the time."""
    world = World()
    world.run(20, 2_000, 1_000)
    assert world.flow.least_lag == pytest.approx(10_000, rel=0.06)
    world.run(STEP_S, 0, 1e9)
    assert world.flow.least_lag == 0


def test_usual_follows_slowly_and_only_while_normal() -> None:
    """A burst of a few minutes is not the usual."""
    world = World()
    world.run(30, 1_000, 1_000)
    world.run(60, 10_000, 5_000, normal=False)
    assert world.flow.usual == pytest.approx(1_000, rel=0.01)
    world.run(3 * USUAL_OVER_S, 4_000, 4_000)
    assert world.flow.usual == pytest.approx(4_000, rel=0.06)


@pytest.mark.parametrize(
    ("produced", "decoded", "why"),
    [
        (4_000, 1_500, Cause.INGRESS_BURST),
        (1_000, 300, Cause.SLOW_WRITER),
        (1_500, 100, Cause.SLOW_WRITER),
        (9_000, 0, Cause.SLOW_WRITER),
        (1_500, 1_000, Cause.INGRESS_BURST),
    ],
)
def test_what_changed_more_is_why_it_rises(produced: int, decoded: int, why: Cause) -> None:
    """Twice as much that comes weighs as much as half of it decoded."""
    world = World()
    world.run(60, 1_000, 1_000)
    world.run(3, produced, decoded, normal=False)
    assert world.flow.why_rising() is why


def test_log_that_begins_anew_begins_the_rates_anew() -> None:
    """Its topic was made again; so does a reading that could not be taken."""
    world = World()
    world.run(10, 1_000, 1_000)
    assert on(world.flow, group(5, 0), world.now_s + 1, normal=True).rates is None
    assert on(world.flow, group(9, 0, known=False), world.now_s + 1, normal=True).rates is None


def test_nothing_is_usual_before_there_is_a_rate() -> None:
    """Then nobody knows why lag rises."""
    world = World()
    world.run(3, 9_000, 10)
    assert world.flow.why_rising() is None
