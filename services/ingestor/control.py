"""Control: whether sessions take new data.

They stop only where this process's own memory stands at CIRCUIT_BREAK and the spool takes no more:
then they disconnect, for what waits in a connection is memory too. Below that a full spool only
makes them wait. What is missed meanwhile is a gap, and is healed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from libs.degradation.level import Level
from libs.degradation.obedience import Applied
from libs.runtime.actor import Actor
from libs.runtime.memory import give_back
from services.ingestor import measures

log = structlog.get_logger()
LOOK_EVERY_S = 0.1


class Intake:
    """What sessions wait on; they take while it is open."""

    def __init__(self) -> None:
        self.stops = 0
        self.discarded_messages = 0
        self._opened = asyncio.Event()
        self._stopped = asyncio.Event()
        self._opened.set()

    @property
    def taking(self) -> bool:
        return self._opened.is_set()

    async def opened(self) -> None:
        await self._opened.wait()

    async def stopped(self) -> None:
        await self._stopped.wait()

    def stop(self) -> None:
        self.stops += 1
        self._opened.clear()
        self._stopped.set()

    def open(self) -> None:
        self._stopped.clear()
        self._opened.set()

    def discard(self, messages: int) -> None:
        """Count what a connection had brought and nobody will read."""
        self.discarded_messages += messages
        measures.DISCARDED.inc(messages)


class Control(Actor):
    """Goes by the memory level alone: against lag an ingestor can do nothing."""

    name = "control"

    def __init__(self, intake: Intake, spool_full: Callable[[], bool]) -> None:
        self.memory_level = Level.NORMAL
        self._intake = intake
        self._spool_full = spool_full
        self._stopping = asyncio.Event()
        self._to_give_back = False
        self._thread: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="give-back")

    def bear(self, applied: Applied) -> None:
        self.memory_level = applied.memory_level
        self.decide()

    async def run(self) -> None:
        while not self._stopping.is_set():
            self.decide()
            await self._give_back()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._stopping.wait()

    async def stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False)

    def decide(self) -> None:
        must_stop = self.memory_level >= Level.CIRCUIT_BREAK and self._spool_full()
        if must_stop and self._intake.taking:
            log.error("intake_stopped", memory_level=self.memory_level.name, spool="full")
            self._intake.stop()
            self._to_give_back = True
        elif not must_stop and not self._intake.taking:
            log.warning("intake_goes_on", memory_level=self.memory_level.name)
            self._intake.open()
        measures.TAKING.set(self._intake.taking)

    async def _give_back(self) -> None:
        """Return free memory to the system; the event loop goes on meanwhile."""
        if self._to_give_back:
            self._to_give_back = False
            await asyncio.get_running_loop().run_in_executor(self._thread, give_back)
