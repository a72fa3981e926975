"""What befalls a simulated world: each mishap has a duration, and is undone after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.simulation.promises import Promises
from tests.simulation.world import World
from tests.simulation.writer import Gives, SimWriter

USUAL_SHARE = 0.5
CALM_SHARE = 0.3

Undo = Callable[[], None]


@dataclass(slots=True)
class Weather:
    """Mishaps on one world, by the world's own seed."""

    world: World
    happened: Counter[str] = field(default_factory=Counter)
    _undo: list[tuple[float, Undo]] = field(default_factory=list)

    def pass_time(self, seconds: float, promises: Promises) -> None:
        """Let something befall the world every now and then, for so long."""
        world, until_s = self.world, self.world.now_s + seconds
        world.ingress_per_s = world.capacity_per_s * USUAL_SHARE
        next_s = world.now_s
        while world.now_s < until_s:
            if world.now_s >= next_s:
                self.mishap(world.random.choice(MISHAPS), world.random.uniform(5, 120))
                next_s = world.now_s + world.random.uniform(10, 90)
            self.undo(until_s=world.now_s)
            promises.step()

    def mishap(self, mishap: Mishap, lasting_s: float) -> None:
        self.happened[mishap.__name__] += 1
        self._undo.append((self.world.now_s + lasting_s, mishap(self.world)))

    def undo(self, *, until_s: float = float("inf")) -> None:
        """Undo what is over by then."""
        for at_s, undo in self._undo:
            if at_s <= until_s:
                undo()
        self._undo = [one for one in self._undo if one[0] > until_s]

    def calm(self) -> None:
        """End all but what nobody can: memory that never comes back, and who is gone."""
        self.undo()
        self.world.ingress_per_s = self.world.capacity_per_s * CALM_SHARE


Mishap = Callable[[World], Undo]


def some(world: World, share: float) -> list[SimWriter]:
    number = max(1, round(len(world.writers) * share))
    return world.random.sample(world.writers, number)


def burst(world: World) -> Undo:
    before = world.ingress_per_s
    world.ingress_per_s = world.capacity_per_s * world.random.uniform(1.2, 4.0)

    def undo() -> None:
        world.ingress_per_s = before

    return undo


def slow_writers(world: World) -> Undo:
    chosen = some(world, world.random.uniform(0.1, 1.0))
    for writer in chosen:
        writer.outside.speed = world.random.uniform(0.05, 0.6)

    def undo() -> None:
        for writer in chosen:
            writer.outside.speed = 1.0

    return undo


def killed_writers(world: World) -> Undo:
    for writer in some(world, 0.2):
        writer.kill(world.now_s, world.random.uniform(2, 40))
    return lambda: None


def vanished_writer(world: World) -> Undo:
    chosen = some(world, 0.1)
    for writer in chosen:
        writer.kill(world.now_s)
        writer.gone = True

    def undo() -> None:
        for writer in chosen:
            writer.gone = False

    return undo


def sink_down(world: World) -> Undo:
    chosen = some(world, world.random.choice((0.3, 1.0)))
    for writer in chosen:
        writer.outside.sink_up = False

    def undo() -> None:
        for writer in chosen:
            writer.outside.sink_up = True

    return undo


def full_memory(world: World) -> Undo:
    for writer in some(world, 0.2):
        if writer.outside.gives is not Gives.NEVER:
            writer.outside.gives = world.random.choice((Gives.AT_ONCE, Gives.RESTARTED))
            writer.outside.ballast = world.random.uniform(0.4, 0.8)
    return lambda: None


def memory_that_never_comes_back(world: World) -> Undo:
    """At most in a tenth of the writers: they go on with the smallest batches."""
    never = [w for w in world.writers if w.outside.gives is Gives.NEVER]
    if len(never) < max(1, len(world.writers) // 10):
        outside = world.random.choice(world.writers).outside
        outside.gives, outside.ballast = Gives.NEVER, 0.75
    return lambda: None


def held_partition(world: World) -> Undo:
    part = world.random.choice(world.log.partitions)
    part.poison = part.decoded

    def undo() -> None:
        part.poison = None

    return undo


def hot_partition(world: World) -> Undo:
    world.log.hot = world.random.choice(world.log.partitions)

    def undo() -> None:
        world.log.hot = None

    return undo


def stopped_governor(world: World) -> Undo:
    """SIGSTOP: it wakes up believing that it leads."""
    chosen = world.leader or world.random.choice(world.governors)
    chosen.paused_until_s = float("inf")

    def undo() -> None:
        chosen.paused_until_s = 0.0

    return undo


def governor_without_kafka(world: World) -> Undo:
    """It still reaches the writers, and cannot prove that it leads."""
    chosen = world.leader or world.random.choice(world.governors)
    chosen.reaches_kafka = False

    def undo() -> None:
        chosen.reaches_kafka = True

    return undo


def cut_links(world: World) -> Undo:
    links = [world.links[writer.name] for writer in some(world, world.random.choice((0.2, 1.0)))]
    for link in links:
        link.cut = True

    def undo() -> None:
        for link in links:
            link.cut = False

    return undo


def slow_links(world: World) -> Undo:
    """Messages take seconds, and overtake each other."""
    links = [world.links[writer.name] for writer in some(world, 0.3)]
    for link in links:
        link.slow_s = world.random.uniform(0.5, 8.0)

    def undo() -> None:
        for link in links:
            link.slow_s = 0.0

    return undo


MISHAPS: Sequence[Mishap] = (
    burst,
    slow_writers,
    killed_writers,
    vanished_writer,
    sink_down,
    full_memory,
    memory_that_never_comes_back,
    held_partition,
    hot_partition,
    stopped_governor,
    governor_without_kafka,
    cut_links,
    slow_links,
)
