"""Restart, ordered stop, giving up: what a supervisor does to its actors."""

from __future__ import annotations

import asyncio

import pytest

from libs.runtime.actor import Actor
from libs.runtime.restarts import RestartPolicy
from libs.runtime.supervisor import DrainError, RestartIntensityError, Supervisor
from tests.support.actors import WITHOUT_WAITING, Collector, Recorder, ScriptedError, supervised
from tests.support.clock import ManualClock
from tests.support.polling import eventually


def others() -> set[asyncio.Task[object]]:
    """Tasks beside the test's own."""
    return {t for t in asyncio.all_tasks() if t is not asyncio.current_task()}


async def test_actors_start_in_order_and_stop_in_reverse() -> None:
    """Each stops only once the one before has drained and closed."""
    diary: list[str] = []
    supervisor = Supervisor([Recorder("sink", diary), Recorder("source", diary)])

    async with supervised(supervisor):
        await eventually(lambda: supervisor.started)

    assert [line for line in diary if "run" not in line] == [
        "sink start",
        "source start",
        "source stop",
        "source drained",
        "source close",
        "sink stop",
        "sink drained",
        "sink close",
    ]
    assert not others()


async def test_stop_order_can_be_given() -> None:
    """It names every actor once, or is refused."""
    diary: list[str] = []
    first, second = Recorder("first", diary), Recorder("second", diary)
    supervisor = Supervisor([first, second], stop_order=[first, second])

    async with supervised(supervisor):
        await eventually(lambda: supervisor.started)

    assert diary[-1] == "second close"
    with pytest.raises(ValueError, match="every actor once"):
        Supervisor([first, second], stop_order=[first])


async def test_failed_actor_restarts_and_others_go_on() -> None:
    """One-for-one, and closed before it starts again."""
    diary: list[str] = []
    actors = [Recorder("steady", diary), Recorder("shaky", diary, failing_runs=2)]

    async with supervised(Supervisor(actors, policy=WITHOUT_WAITING)):
        await eventually(lambda: diary.count("shaky run") == 3)

    assert diary.count("steady start") == 1
    shaky = [line for line in diary if line.startswith("shaky")]
    assert shaky[:6] == ["shaky start", "shaky run", "shaky close"] * 2


async def test_failed_start_is_retried_before_the_next_actor_starts() -> None:
    """The order of starting is a promise that a failure does not break."""
    diary: list[str] = []
    actors = [Recorder("sink", diary, failing_starts=2), Recorder("source", diary)]

    async with supervised(Supervisor(actors, policy=WITHOUT_WAITING)):
        await eventually(lambda: "source run" in diary)

    assert diary[:6] == ["sink start", "sink close"] * 2 + ["sink start", "sink run"]


async def test_too_many_restarts_end_the_run() -> None:
    """The error names the actor and its last failure; the others are cancelled and closed."""
    diary: list[str] = []
    actors = [Recorder("steady", diary), Recorder("broken", diary, failing_runs=99)]
    supervisor = Supervisor(actors, policy=WITHOUT_WAITING, clock=ManualClock())

    with pytest.raises(RestartIntensityError, match=r"broken failed again .* broken fails") as told:
        await asyncio.wait_for(supervisor.run(), 60)

    assert diary.count("broken run") == WITHOUT_WAITING.max_restarts + 1
    assert isinstance(told.value.__cause__, ScriptedError)
    assert diary.count("steady close") == 1
    assert not others()


async def test_restarts_spread_over_time_are_borne() -> None:
    """Only restarts within the window count, by the clock that was passed in."""
    clock, diary = ManualClock(), list[str]()
    policy = RestartPolicy(max_restarts=1, within_s=10, backoff_s=0)

    class SlowlyFailing(Recorder):
        async def run(self) -> None:
            clock.advance(6)
            await super().run()

    async with supervised(
        Supervisor([SlowlyFailing("s", diary, failing_runs=1)], policy=policy, clock=clock)
    ):
        await eventually(lambda: diary.count("s run") == 2)

    clock = ManualClock()
    with pytest.raises(RestartIntensityError):
        await Supervisor(
            [SlowlyFailing("s", diary, failing_runs=3)], policy=policy, clock=clock
        ).run()


async def test_message_in_hand_survives_a_failure() -> None:
    """With `redeliver` it is handled again, before those that came after it."""
    actor = Collector(failing_attempts=[1, 2])

    async with supervised(Supervisor([actor], policy=WITHOUT_WAITING)):
        for number in range(4):
            await actor.tell(number)
        await eventually(lambda: 3 in actor.handled)

    assert actor.handled == [0, 1, 2, 3]
    assert actor.attempts == [0, 1, 1, 1, 2, 3]


async def test_without_redelivery_the_message_in_hand_is_dropped() -> None:
    """The rest of the mailbox is kept all the same."""
    actor = Collector(failing_attempts=[1], redeliver=False)

    async with supervised(Supervisor([actor], policy=WITHOUT_WAITING)):
        for number in range(4):
            await actor.tell(number)
        await eventually(lambda: 3 in actor.handled)

    assert actor.handled == [0, 2, 3]


async def test_failure_while_draining_loses_nothing() -> None:
    """An actor that fails after the stop was asked is restarted, and drains to the end."""
    actor = Collector(failing_attempts=[0, 2], capacity=8)
    for number in range(6):
        actor.mailbox.offer(number)
    supervisor = Supervisor([actor], policy=WITHOUT_WAITING)

    async with supervised(supervisor):
        await eventually(lambda: supervisor.started)

    assert actor.handled == list(range(6))


async def test_stop_cuts_a_backoff_short_and_drains() -> None:
    """Who waits to be restarted is restarted at once, for its messages are still there."""
    actor = Collector(failing_attempts=[0])
    patient = RestartPolicy(backoff_s=300, max_backoff_s=300)
    supervisor = Supervisor([actor], policy=patient)

    async with supervised(supervisor):
        await actor.tell(1)
        await eventually(lambda: actor.attempts == [1])

    assert actor.handled == [1]


class Hanging(Actor):
    """Hangs in one phase until cancelled."""

    def __init__(self, phase: str) -> None:
        self.name = "hanging"
        self.phase = phase
        self.entered: set[str] = set()

    async def start(self) -> None:
        await self._hang_in("start")

    async def run(self) -> None:
        await self._hang_in("run")

    async def stop(self) -> None:
        await self._hang_in("stop")

    async def close(self) -> None:
        self.entered.add("close")

    async def _hang_in(self, phase: str) -> None:
        self.entered.add(phase)
        if phase == self.phase:
            await asyncio.Event().wait()


async def test_stop_interrupts_a_first_start() -> None:
    """Nothing was taken in yet, so there is nothing to wait for."""
    actor, never = Hanging("start"), Hanging("run")
    supervisor = Supervisor([actor, never])

    async with supervised(supervisor):
        await eventually(lambda: "start" in actor.entered)

    assert actor.entered == {"start", "close"}
    assert not never.entered
    assert not others()


async def test_actor_that_does_not_drain_is_cut_off() -> None:
    """It is cancelled and closed, the others still stop in order, and the run says so."""
    diary: list[str] = []
    supervisor = Supervisor([Recorder("sink", diary), Hanging("run")], stop_timeout_s=0.5)

    async def stopped() -> None:
        async with supervised(supervisor):
            await eventually(lambda: supervisor.started)

    with pytest.raises(DrainError, match="hanging did not stop within"):
        await stopped()
    assert diary[-2:] == ["sink drained", "sink close"]
    assert not others()


async def test_stop_that_fails_does_not_keep_others_from_stopping() -> None:
    """The actor whose `stop` raises is cut off after its time."""
    diary: list[str] = []

    class Unwilling(Hanging):
        async def stop(self) -> None:
            raise ScriptedError("will not")

    supervisor = Supervisor([Recorder("sink", diary), Unwilling("run")], stop_timeout_s=0.5)
    run = asyncio.create_task(supervisor.run())
    await eventually(lambda: supervisor.started)
    await supervisor.stop()

    with pytest.raises(DrainError):
        await run
    assert diary[-1] == "sink close"


async def test_cancelling_the_run_closes_every_actor() -> None:
    """The hard way out leaves no task and nothing open."""
    diary: list[str] = []
    supervisor = Supervisor([Recorder("a", diary), Recorder("b", diary)])
    run = asyncio.create_task(supervisor.run())
    await eventually(lambda: supervisor.started)

    run.cancel()

    with pytest.raises(asyncio.CancelledError):
        await run
    assert sorted(line for line in diary if "close" in line) == ["a close", "b close"]
    assert not others()


async def test_awaiting_a_cancelled_future_is_a_failure() -> None:
    """An actor must not end in silence because something it waited for was cancelled."""
    diary: list[str] = []

    class Deceived(Recorder):
        async def run(self) -> None:
            if self.failing_runs:
                self.failing_runs -= 1
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future
            await super().run()

    async with supervised(
        Supervisor([Deceived("d", diary, failing_runs=1)], policy=WITHOUT_WAITING)
    ):
        await eventually(lambda: "d run" in diary)

    assert diary.count("d start") == 2


async def test_actor_that_returns_is_done() -> None:
    """It is not restarted, and the others go on until the stop."""
    diary: list[str] = []

    class Brief(Recorder):
        async def run(self) -> None:
            self.diary.append("brief done")

    async with supervised(Supervisor([Brief("brief", diary), Recorder("steady", diary)])) as run:
        await eventually(lambda: "steady run" in diary)
        assert not run.done()

    assert diary.count("brief done") == 1
    assert "brief stop" not in diary


@pytest.mark.parametrize(
    ("failures", "longest_s"), [(1, 0.1), (2, 0.2), (4, 0.8), (20, 5), (5_000, 5)]
)
def test_backoff_doubles_up_to_its_cap(failures: int, longest_s: float) -> None:
    """However often it failed, the wait stays finite; between half and all of it is waited."""
    backoff = RestartPolicy().backoff

    assert backoff.longest_s(failures) == pytest.approx(longest_s)
    assert 0.5 <= backoff.wait_s(failures) / backoff.longest_s(failures) <= 1
