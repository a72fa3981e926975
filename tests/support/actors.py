"""Actors that do what a test tells them, and write down what happened to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from libs.runtime.actor import Actor, MailboxActor
from libs.runtime.restarts import RestartPolicy
from libs.runtime.supervisor import Supervisor

WITHOUT_WAITING = RestartPolicy(max_restarts=5, within_s=60, backoff_s=0)


class ScriptedError(Exception):
    """A failure that a test ordered."""


class Recorder(Actor):
    """Runs until stopped; fails where `failures` says so; `diary` is shared between actors."""

    def __init__(
        self, name: str, diary: list[str], *, failing_runs: int = 0, failing_starts: int = 0
    ) -> None:
        self.name = name
        self.diary = diary
        self.failing_runs = failing_runs
        self.failing_starts = failing_starts
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        self.diary.append(f"{self.name} start")
        if self.failing_starts:
            self.failing_starts -= 1
            raise ScriptedError(f"{self.name} cannot start")

    async def run(self) -> None:
        self.diary.append(f"{self.name} run")
        if self.failing_runs:
            self.failing_runs -= 1
            raise ScriptedError(f"{self.name} fails")
        await self._stopped.wait()
        self.diary.append(f"{self.name} drained")

    async def stop(self) -> None:
        self.diary.append(f"{self.name} stop")
        self._stopped.set()

    async def close(self) -> None:
        self.diary.append(f"{self.name} close")


class Collector(MailboxActor[int]):
    """Collects numbers; fails when handling is due to, by count of attempts."""

    def __init__(
        self,
        name: str = "collector",
        *,
        failing_attempts: Iterable[int] = (),
        redeliver: bool = True,
        capacity: int = 4,
    ) -> None:
        super().__init__(name, capacity=capacity, redeliver=redeliver)
        self.handled: list[int] = []
        self.attempts: list[int] = []
        self._failing_attempts = set(failing_attempts)

    async def handle(self, message: int) -> None:
        attempt = len(self.attempts)
        self.attempts.append(message)
        await asyncio.sleep(0)
        if attempt in self._failing_attempts:
            raise ScriptedError(f"attempt {attempt}")
        self.handled.append(message)


@asynccontextmanager
async def supervised(supervisor: Supervisor) -> AsyncIterator[asyncio.Task[None]]:
    """Run a supervisor while the body runs; stopping is ordered, and must succeed."""
    run = asyncio.create_task(supervisor.run())
    try:
        yield run
    finally:
        await supervisor.stop()
        await asyncio.wait_for(run, 60)
