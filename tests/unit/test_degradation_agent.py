"""The agent obeys, refuses what is stale, and manages alone, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from libs.degradation.agent import DegradationAgent
from libs.degradation.level import Cause, Level, Rules, Thresholds
from libs.degradation.link import Connect
from libs.degradation.memory import MemoryUse
from libs.degradation.messages import Acknowledgement, Directive, OwnReport, Report
from libs.degradation.obedience import Applied
from libs.market.errors import K2Error, UnavailableError
from tests.support.clock import ManualClock
from tests.support.polling import eventually

LIMIT = 1_000
RULES = Rules(lag=Thresholds(100, 500, 1_000, 5_000), cooldown_s=4)


class World:
    """One agent, with its memory, lag and clock in the test's hand."""

    def __init__(
        self,
        connect: Connect | None = None,
        taken_in: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.used = 100
        self.own = OwnReport(lag=0)
        self.heard: list[Applied] = []
        self.agent = DegradationAgent(
            "writer",
            "writer-1",
            "governor:1" if connect else None,
            lambda: self.own,
            self.heard.append,
            rules=RULES,
            measure=lambda _: MemoryUse(self.used, LIMIT),
            connect=connect,
            clock=self.clock,
            taken_in=taken_in,
        )

    @property
    def level(self) -> Level:
        return self.agent.applied.level

    def pass_s(self, seconds: int) -> Report:
        for _ in range(seconds):
            self.clock.advance(1)
            report = self.agent.tick()
        return report


def told(
    sequence: int = 1,
    *,
    epoch: int = 1,
    lag: Level = Level.NORMAL,
    memory: Level = Level.NORMAL,
    writers: int = 1,
) -> Directive:
    return Directive(epoch, sequence, 10, lag, memory, writers=writers, rules=RULES)


class FakeStream:
    """The governor's end: the test reads what was sent and says what is received."""

    def __init__(self) -> None:
        self.sent: list[Report | Acknowledgement] = []
        self.directives: asyncio.Queue[Directive | K2Error] = asyncio.Queue()

    async def send(self, message: Report | Acknowledgement) -> None:
        self.sent.append(message)

    async def receive(self) -> Directive:
        received = await self.directives.get()
        if isinstance(received, K2Error):
            raise received
        return received


class FakeGovernor:
    """Takes connections, or refuses them."""

    def __init__(self) -> None:
        self.streams: list[FakeStream] = []
        self.refusals = 0
        self.there = True

    @asynccontextmanager
    async def connect(self, _: str) -> AsyncIterator[FakeStream]:
        if not self.there:
            self.refusals += 1
            raise UnavailableError("nothing answers at governor:1")
        self.streams.append(FakeStream())
        yield self.streams[-1]

    async def stream(self, number: int) -> FakeStream:
        await eventually(lambda: len(self.streams) > number)
        return self.streams[number]


def test_directive_is_applied_and_acknowledged() -> None:
    """The service hears of it once, with its cause."""
    world = World()
    assert world.agent.obey(told(lag=Level.GRACEFUL)) == Acknowledgement(1, 1)
    world.agent.obey(told(lag=Level.GRACEFUL))
    assert world.agent.level is Level.GRACEFUL
    assert [heard.causes for heard in world.heard] == [frozenset({Cause.LAG})]
    assert world.heard[0].authority == "governor"


@pytest.mark.parametrize(("epoch", "sequence"), [(1, 9), (2, 4)])
def test_stale_directive_is_refused(epoch: int, sequence: int) -> None:
    """By epoch, then by sequence; the refusal says which and what holds."""
    world = World()
    world.agent.obey(told(5, epoch=2, lag=Level.SOFT))
    answer = world.agent.obey(told(sequence, epoch=epoch, lag=Level.CIRCUIT_BREAK))
    assert answer is not None
    assert answer.refused_because.startswith("stale")
    assert world.level is Level.SOFT


def test_newer_epoch_is_obeyed_whatever_its_sequence() -> None:
    """A restarted governor counts from one."""
    world = World()
    world.agent.obey(told(500, epoch=1, lag=Level.SOFT))
    assert world.agent.obey(told(1, epoch=2)) == Acknowledgement(2, 1)
    assert world.level is Level.NORMAL


def test_own_memory_level_is_applied_whatever_the_governor_says() -> None:
    """The higher of the directive and the process's own."""
    world = World()
    world.agent.obey(told(lag=Level.SOFT))
    world.used = 910
    report = world.pass_s(1)
    assert world.agent.applied.memory_level is Level.AGGRESSIVE
    assert world.agent.applied.lag_level is Level.SOFT
    assert (report.applied_level, report.applied_lag_level) == (Level.AGGRESSIVE, Level.SOFT)
    assert world.agent.applied.causes == {Cause.LAG, Cause.MEMORY}


def test_level_holds_until_the_ttl_and_then_falls_by_the_same_machine() -> None:
    """Losing the governor lowers nothing; own lag at rest does, one level per cooldown."""
    world = World()
    world.agent.obey(told(lag=Level.GRACEFUL))
    world.pass_s(9)
    assert world.agent.applied.authority == "governor"
    world.pass_s(2)
    assert (world.agent.applied.authority, world.level) == ("itself", Level.GRACEFUL)
    levels = [world.pass_s(4).applied_level for _ in range(2)]
    assert levels == [Level.SOFT, Level.NORMAL]


def test_own_lag_raises_the_level_only_while_nobody_directs() -> None:
    """The governor sees the whole group; the process only its own part."""
    world = World()
    world.own = OwnReport(lag=2_000)
    world.agent.obey(told())
    levels = [world.pass_s(seconds).applied_level for seconds in (9, 3)]
    assert levels == [Level.NORMAL, Level.AGGRESSIVE]


def test_thresholds_are_shared_out_among_the_writers_of_the_last_directive() -> None:
    """30 of 100 is SOFT for one of four writers."""
    world = World()
    world.own = OwnReport(lag=30)
    world.agent.obey(told(writers=4))
    world.pass_s(12)
    assert world.level is Level.SOFT


def test_unknown_own_lag_holds_the_level_without_a_governor() -> None:
    """A process that reads no topic cannot know better than the last directive."""
    world = World()
    world.own = OwnReport("k2-writer", lag=None)
    world.agent.obey(told(lag=Level.SOFT))
    world.pass_s(100)
    assert world.level is Level.SOFT


def test_process_without_a_governor_goes_by_its_own_lag() -> None:
    """Services start and run without one."""
    world = World()
    world.own = OwnReport(lag=600)
    world.pass_s(2)
    assert world.level is Level.GRACEFUL


def test_baseline_is_the_lowest_use_of_the_first_ten_seconds() -> None:
    """What the process takes later is load, not rest."""
    world = World()
    world.used = 400
    world.pass_s(1)
    world.used = 300
    world.pass_s(10)
    world.used = 200
    assert world.pass_s(20).memory_baseline_bytes == 300


async def test_agent_reports_first_and_acknowledges_what_it_hears() -> None:
    """The first message names the process."""
    governor = FakeGovernor()
    world = World(governor.connect)
    running = asyncio.create_task(world.agent.run())
    stream = await governor.stream(0)
    await stream.directives.put(told(7, lag=Level.SOFT))
    await eventually(lambda: Acknowledgement(1, 7) in stream.sent)
    assert isinstance(stream.sent[0], Report)
    assert stream.sent[0].process == "writer-1"
    await _end(world, running)


class Parts:
    """What acts on a level; it takes changes in when the test lets it."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def taken_in(self) -> None:
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]

    async def take_in(self, number: int) -> None:
        """Let the change be taken in that was the so-manyth to be asked for."""
        await eventually(lambda: len(self.waiting) > number)
        self.waiting[number].set_result(None)


async def test_level_is_applied_once_every_part_has_taken_it_in() -> None:
    """It is demanded at once; not shown, reported or acknowledged before the parts go by it."""
    governor, parts = FakeGovernor(), Parts()
    world = World(governor.connect, parts.taken_in)
    running = asyncio.create_task(world.agent.run())
    stream = await governor.stream(0)
    await parts.take_in(0)
    await stream.directives.put(told(7, lag=Level.SOFT))
    await eventually(lambda: len(parts.waiting) == 2)
    await stream.directives.put(told(8, lag=Level.SOFT))
    await eventually(stream.directives.empty)
    assert (world.agent.demanded.level, world.level) == (Level.SOFT, Level.NORMAL)
    assert world.agent.tick().applied_level is Level.NORMAL
    assert not any(isinstance(message, Acknowledgement) for message in stream.sent)
    await parts.take_in(1)
    await eventually(lambda: Acknowledgement(1, 8) in stream.sent)
    assert (world.level, len(world.heard)) == (Level.SOFT, 1)
    await _end(world, running)


async def test_level_that_comes_and_goes_is_applied_after_the_last_change() -> None:
    """Back where it was is not applied either while a part may still be on its way there."""
    governor, parts = FakeGovernor(), Parts()
    world = World(governor.connect, parts.taken_in)
    running = asyncio.create_task(world.agent.run())
    stream = await governor.stream(0)
    await parts.take_in(0)
    await stream.directives.put(told(7, lag=Level.SOFT))
    await eventually(lambda: len(parts.waiting) == 2)
    await stream.directives.put(told(8))
    await eventually(lambda: world.agent.demanded.level is Level.NORMAL)
    await parts.take_in(1)
    await eventually(lambda: len(parts.waiting) == 3)
    assert not any(isinstance(message, Acknowledgement) for message in stream.sent)
    await parts.take_in(2)
    await eventually(lambda: Acknowledgement(1, 8) in stream.sent)
    assert [heard.level for heard in world.heard] == [Level.SOFT, Level.NORMAL]
    await _end(world, running)


async def test_agent_connects_again_and_keeps_its_level_meanwhile() -> None:
    """A broken stream is not a changed level, and the new one hears the epoch."""
    governor = FakeGovernor()
    world = World(governor.connect)
    running = asyncio.create_task(world.agent.run())
    first = await governor.stream(0)
    await first.directives.put(told(epoch=3, lag=Level.SOFT))
    await first.directives.put(UnavailableError("gone"))
    second = await governor.stream(1)
    assert world.level is Level.SOFT
    await eventually(lambda: len(second.sent) > 0)
    report = second.sent[0]
    assert isinstance(report, Report)
    assert (report.epoch, report.applied_lag_level) == (3, Level.SOFT)
    await _end(world, running)


async def test_agent_never_raises_because_the_governor_is_away() -> None:
    """It tries on, and stops when asked."""
    governor = FakeGovernor()
    governor.there = False
    world = World(governor.connect)
    running = asyncio.create_task(world.agent.run())
    await eventually(lambda: governor.refusals > 2)
    assert not running.done()
    assert not world.agent.connected
    await _end(world, running)


async def _end(world: World, running: asyncio.Task[None]) -> None:
    await world.agent.stop()
    async with asyncio.timeout(60):
        await running


async def test_renewed_directive_is_not_acknowledged_again() -> None:
    """From a hundred processes that would be a quarter of what a governor hears."""
    governor = FakeGovernor()
    world = World(governor.connect)
    running = asyncio.create_task(world.agent.run())
    stream = await governor.stream(0)
    for sequence in (7, 7, 7, 8):
        await stream.directives.put(told(sequence, lag=Level.SOFT))
    await eventually(lambda: Acknowledgement(1, 8) in stream.sent)
    said = [message for message in stream.sent if isinstance(message, Acknowledgement)]
    assert said == [Acknowledgement(1, 7), Acknowledgement(1, 8)]
    await _end(world, running)


async def test_lag_that_presses_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the next report is due, here never: the governor counts from what it hears."""
    monkeypatch.setattr("libs.degradation.cadence.STEADY_S", 1e9)
    governor = FakeGovernor()
    world = World(governor.connect)
    running = asyncio.create_task(world.agent.run())
    stream = await governor.stream(0)
    await stream.directives.put(told(writers=2))
    world.own = OwnReport(lag=50)
    await eventually(lambda: any(isinstance(m, Report) and m.own.lag == 50 for m in stream.sent))
    await _end(world, running)


def test_process_alone_knows_that_its_sink_is_down() -> None:
    """Then it sheds nothing, whatever its lag: what it shed could not be committed either."""
    world = World()
    world.own = OwnReport(lag=2_000, commit_failures=3)
    world.pass_s(3)
    assert (world.level, Cause.SINK_DOWN in world.agent.applied.causes) == (Level.AGGRESSIVE, True)
    world.own = OwnReport(lag=2_000)
    world.pass_s(1)
    assert Cause.SINK_DOWN not in world.agent.applied.causes
