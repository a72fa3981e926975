"""What must hold at every moment of a simulated world, whatever happens in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.degradation.level import Level
from services.writer.intake.throttle import LONGEST_PAUSE_S
from tests.simulation.world import World
from tests.simulation.writer import SimWriter

# What is left of all writers' capacity where less than a third of it comes, one in five is gone,
# and the others go on with small batches.
SPARE_SHARE = 0.2


@dataclass(slots=True)
class Promises:
    """Looks at a world after each step; `broken` says what did not hold, and when."""

    world: World
    broken: list[str] = field(default_factory=list)
    _epochs: dict[str, tuple[int, float]] = field(default_factory=dict)

    def step(self) -> None:
        self.world.step()
        for writer in self.world.writers:
            if writer.up(self.world.now_s):
                self._obeys_forward(writer)
                self._obeys_no_fenced_governor(writer)
                self._sheds_only_where_it_helps(writer)
                self._consumes(writer)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / self.world.size.step_s)):
            self.step()

    def _say(self, writer: SimWriter, what: str) -> None:
        self.broken.append(f"{self.world.now_s:g} s: {writer.name} {what}")

    def _obeys_forward(self, writer: SimWriter) -> None:
        """No process goes back to an older epoch, but for one that was started anew."""
        before, up_at_s = self._epochs.get(writer.name, (0, 0.0))
        if writer.up_at_s == up_at_s and writer.state.epoch < before:
            self._say(writer, f"went back from epoch {before} to {writer.state.epoch}")
        self._epochs[writer.name] = (writer.state.epoch, writer.up_at_s)

    def _obeys_no_fenced_governor(self, writer: SimWriter) -> None:
        """Whoever was fenced is obeyed for at most a TTL from the proof of its last directive."""
        newer = [claim for claim in self.world.claims if claim.epoch > writer.state.epoch]
        if not newer or not writer.state.directed(self.world.now_s):
            return
        over_s = self.world.now_s - newer[0].at_s - self.world.size.ttl_s
        if over_s > self.world.size.step_s:
            self._say(writer, f"obeys a fenced governor {over_s:g} s beyond its TTL")

    def _sheds_only_where_it_helps(self, writer: SimWriter) -> None:
        # What it finds when it looks it obeys from the next step on.
        if writer.failures > writer.state.rules.sink_down_failures and writer.shed_now:
            self._say(writer, "sheds while its commits fail")

    def _consumes(self, writer: SimWriter) -> None:
        """Lag stops nobody, and memory nobody for longer than a minute."""
        step_s = self.world.size.step_s
        if writer.done.longest_pause_s > LONGEST_PAUSE_S + step_s:
            self._say(writer, f"paused for {writer.done.longest_pause_s:g} s")
            writer.done.longest_pause_s = 0.0
        if writer.stood_still:
            self._say(writer, f"reads nothing at {self.world.lag_level(writer).name} by lag")


def recovery_bound_s(world: World) -> float:
    """Return the time in which all must be NORMAL again once less comes than can be decoded.

    Every level is left after a cooldown at its longest; before that the lag must be gone, a pause
    for memory over, and the writers directed again, or going their own way. What waits in the
    partitions of one writer no other can drain.
    """
    size, damping = world.size, world.size.rules.damping
    most_lag = max(sum(part.lag for part in writer.parts) for writer in world.writers)
    drain_s = most_lag / (SPARE_SHARE * size.capacity_per_s)
    down_s = (len(Level) - 1) * damping.most_cooldown_factor * size.rules.cooldown_s
    return drain_s + down_s + LONGEST_PAUSE_S + 4 * size.ttl_s


def recovers(promises: Promises) -> bool:
    """Say whether all is NORMAL by lag, and hardly any lag left, within the bound."""
    world = promises.world
    until_s = world.now_s + recovery_bound_s(world)
    while world.now_s < until_s:
        promises.step()
        if not unrecovered(world):
            return True
    return False


def unrecovered(world: World) -> list[str]:
    """Say what is not back to normal."""
    running = [writer for writer in world.writers if writer.up(world.now_s)]
    levels = [(writer.name, world.lag_level(writer)) for writer in running]
    levels.append(("the group", world.level))
    above = [f"{name} is at {level.name}" for name, level in levels if level > Level.NORMAL]
    behind = world.log.lag >= world.size.rules.lag.soft
    return [*above, *([f"{world.log.lag:,.0f} records behind"] if behind else [])]
