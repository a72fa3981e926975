"""The whole control loop, whatever befalls it: its promises hold, and it comes back to NORMAL."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from libs.degradation.level import Rules
from tests.simulation.promises import Promises, recovers
from tests.simulation.weather import MISHAPS, USUAL_SHARE, Mishap, Weather
from tests.simulation.world import Size, World

SMALL = Size(writers=3, partitions=6, capacity_per_s=60_000, ttl_s=5.0, rules=Rules(cooldown_s=5.0))


class ControlLoop(RuleBasedStateMachine):
    """Three writers and two governors; each mishap lasts as long as hypothesis likes."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(SMALL, seed)
        self.promises, self.weather = Promises(self.world), Weather(self.world)
        self.world.ingress_per_s = self.world.capacity_per_s * USUAL_SHARE
        self.promises.run(8)

    @rule(mishap=st.sampled_from(MISHAPS), lasting_s=st.floats(1, 60))
    def befall(self, mishap: Mishap, lasting_s: float) -> None:
        self.weather.mishap(mishap, lasting_s)

    @rule(seconds=st.floats(1, 25))
    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / SMALL.step_s)):
            self.weather.undo(until_s=self.world.now_s)
            self.promises.step()

    @invariant()
    def keeps_its_promises(self) -> None:
        if hasattr(self, "promises"):
            assert not self.promises.broken, self.promises.broken[0]

    def teardown(self) -> None:
        """From any state, less coming than can be decoded leads to NORMAL in bounded time."""
        if not hasattr(self, "promises"):
            return
        self.weather.calm()
        assert recovers(self.promises), f"{self.world.level.name}, {self.world.log.lag:,.0f}"
        assert not self.promises.broken, self.promises.broken[0]


ControlLoop.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=10,
    deadline=None,
)
TestControlLoop = ControlLoop.TestCase
