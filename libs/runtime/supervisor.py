"""Restart what fails, stop in order, and give up where restarting does not help."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog
from prometheus_client import Counter

from libs.market.clock import Clock, SystemClock
from libs.market.errors import K2Error
from libs.runtime.actor import Actor
from libs.runtime.restarts import RestartHistory, RestartPolicy

log = structlog.get_logger()
CUT_OFF_TIMEOUT_S = 5.0
RESTARTS = Counter("k2_actor_restarts", "Actors started anew after a failure", ["actor"])


class RestartIntensityError(K2Error):
    """Actors failed more often than the policy bears; the process should start afresh."""

    reason = "RESTART_INTENSITY"

    def __init__(self, actor: str, policy: RestartPolicy, cause: BaseException) -> None:
        super().__init__(
            f"{actor} failed again after {policy.max_restarts} restarts "
            f"within {policy.within_s:g} s; last: {cause}",
            actor=actor,
            max_restarts=policy.max_restarts,
        )


class DrainError(K2Error):
    """Actors had more to do than the time to stop allowed; what was in them is lost."""

    reason = "DRAIN"

    def __init__(self, actors: Sequence[str], timeout_s: float) -> None:
        names = ", ".join(actors)
        super().__init__(f"{names} did not stop within {timeout_s:g} s", actors=names)


class Supervisor:
    """Run actors, each in its own task: one that fails is restarted, the others go on.

    They start in the order given, each after the one before has started, and stop in reverse (or
    in `stop_order`), each after the one before has drained. Name the downstream actor first.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        *,
        policy: RestartPolicy | None = None,
        clock: Clock | None = None,
        stop_timeout_s: float = 20,
        stop_order: Sequence[Actor] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        history = RestartHistory(policy or RestartPolicy())
        self._children = {
            id(a): _Child(a, policy or RestartPolicy(), history, self._clock) for a in actors
        }
        order = list(reversed(actors)) if stop_order is None else list(stop_order)
        if {id(a) for a in order} != set(self._children):
            raise ValueError("stop_order must name every actor once")
        self._stop_order = [self._children[id(a)] for a in order]
        self._stop_timeout_s = stop_timeout_s
        self._stop_asked = asyncio.Event()

    @property
    def started(self) -> bool:
        """True once every actor has started for the first time."""
        return all(child.started.is_set() for child in self._children.values())

    async def run(self) -> None:
        """Run the actors until `stop`.

        Where they fail too often, or this is cancelled, all are cancelled and closed at once.

        Raises:
            RestartIntensityError: an actor failed once too often.
            DrainError: an actor did not stop in time and was cut off.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._start_in_order(tasks))
                await self._stop_asked.wait()
                await self._stop_in_order()
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__

    async def stop(self) -> None:
        """Ask for the ordered stop; `run` returns when it is done.

        An actor that has not started yet will not, and what is in its mailbox is dropped.
        """
        self._stop_asked.set()

    async def _start_in_order(self, tasks: asyncio.TaskGroup) -> None:
        for child in self._children.values():
            if self._stop_asked.is_set():
                return
            child.task = tasks.create_task(child.supervise(), name=child.actor.name)
            await child.started.wait()

    async def _stop_in_order(self) -> None:
        cut_off = [c.actor.name for c in self._stop_order if not await c.stop(self._stop_timeout_s)]
        if cut_off:
            raise DrainError(cut_off, self._stop_timeout_s)


class _Child:
    """One actor's life: start, run, close, and again after a failure."""

    def __init__(
        self, actor: Actor, policy: RestartPolicy, history: RestartHistory, clock: Clock
    ) -> None:
        self.actor = actor
        self.started = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._policy = policy
        self._history = history
        self._clock = clock
        self._running = False
        self._stop_asked = asyncio.Event()
        self._failures_in_a_row = 0

    async def supervise(self) -> None:
        try:
            while (error := await self._live()) is not None:
                await self._restart_after(error)
        finally:
            self.started.set()

    async def stop(self, timeout_s: float) -> bool:
        """Let the actor drain; false where it had to be cut off."""
        if self.task is None or self.task.done():
            return True
        self._stop_asked.set()
        if not self.started.is_set():
            self.task.cancel()
        elif self._running:
            await self._ask_to_stop(timeout_s)
        await asyncio.wait({self.task}, timeout=timeout_s)
        return self.task.done() or await self._cut_off()

    async def _live(self) -> BaseException | None:
        """Run once, from start to close; returns what it failed with."""
        began_s = self._clock.monotonic_s()
        try:
            await self._start_run_close()
        except Exception as error:  # noqa: BLE001 (restarting after any failure is the supervisor's job)
            failure: BaseException = error
        except asyncio.CancelledError as error:
            # Obey who cancelled the task; a future it awaited being cancelled is a failure.
            if _cancel_was_asked():
                raise
            failure = error
        else:
            return None
        lived_s = self._clock.monotonic_s() - began_s
        self._failures_in_a_row = (
            1 if lived_s > self._policy.within_s else self._failures_in_a_row + 1
        )
        return failure

    async def _start_run_close(self) -> None:
        try:
            await self.actor.start()
            self.started.set()
            self._running = True
            if self._stop_asked.is_set():
                await self.actor.stop()
            await self.actor.run()
        finally:
            self._running = False
            await self.actor.close()

    async def _restart_after(self, failure: BaseException) -> None:
        name = self.actor.name
        if not self._history.allows(self._clock.monotonic_s()):
            raise RestartIntensityError(name, self._policy, failure) from failure
        RESTARTS.labels(name).inc()
        facts = failure.facts if isinstance(failure, K2Error) else {}
        exc_info = None if isinstance(failure, K2Error) else failure
        log.error("actor_failed", actor=name, error=str(failure), facts=facts, exc_info=exc_info)
        await self._wait_for_stop(self._policy.backoff.wait_s(self._failures_in_a_row))

    async def _wait_for_stop(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._stop_asked.wait()

    async def _ask_to_stop(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.actor.stop()
        except Exception:
            log.exception("actor_stop_failed", actor=self.actor.name)

    async def _cut_off(self) -> bool:
        assert self.task is not None  # noqa: S101 (for the type checker)
        log.error("actor_cut_off", actor=self.actor.name)
        self.task.cancel()
        await asyncio.wait({self.task}, timeout=CUT_OFF_TIMEOUT_S)
        return False


def _cancel_was_asked() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
