"""The restarter: has the process started anew where nothing else gives its memory back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

import structlog

from libs.degradation.obedience import Applied
from libs.market.clock import Clock
from libs.market.errors import UnavailableError
from libs.runtime.actor import Actor
from services.writer import metrics
from services.writer.batching.memory import give_back
from services.writer.restarting.need import (
    MOST_RESTARTS,
    WITHIN_S,
    Need,
    Sight,
    restarts_left,
)
from services.writer.restarting.past import PastRestarts

log = structlog.get_logger()
LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Around:
    """What the restarter sees of its process, and does to it.

    `go_on` ends the pause: with the smallest batches.
    """

    sight: Callable[[], Sight]
    demanded: Callable[[], Applied]
    go_on: Callable[[], None]
    restart: Callable[[], None]
    give_back: Callable[[], None] = give_back


class Restarter(Actor):
    """Looks several times a second; the process ends at most once."""

    name = "restarter"

    def __init__(
        self,
        around: Around,
        past: PastRestarts,
        executor: Executor,
        clock: Clock,
        *,
        jitter_s: float,
    ) -> None:
        self._around = around
        self._past = past
        self._executor = executor
        self._clock = clock
        self._jitter_s = jitter_s
        self._need = Need()
        self._stopping = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """Whether only a process started anew would help."""
        return self._need.wanted

    async def run(self) -> None:
        while not self._stopping.is_set():
            await self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._stopping.wait()

    async def stop(self) -> None:
        self._stopping.set()

    async def _look(self) -> None:
        now_s, before = self._clock.monotonic_s(), self._need
        jitter_s = random.uniform(0, self._jitter_s)  # noqa: S311 (jitter)
        self._need = before.after(self._around.sight(), now_s, jitter_s=jitter_s)
        metrics.MEMORY_STUCK.set(self._need.given_up)
        if self._need.settling:
            # Again and again: what is freed meanwhile would look like what is never freed.
            await asyncio.get_running_loop().run_in_executor(self._executor, self._around.give_back)
        if self._need.wanted:
            try:
                self._act(now_s)
            except UnavailableError as error:
                self._give_up(error.message)

    def _act(self, now_s: float) -> None:
        """Restart, wait for that, or give up. Raises UnavailableError: nobody could count it."""
        left = restarts_left(self._past.times_us(), self._clock.now_us())
        if not left:
            self._give_up(f"{MOST_RESTARTS} restarts in {WITHIN_S / 60:g} minutes did not help")
        elif self._need.may_act(now_s, turn=self._turn()):
            self._restart(left)

    def _turn(self) -> bool | None:
        """Say whether it is this process' turn, None where nobody gives turns."""
        demanded = self._around.demanded()
        return demanded.restart if demanded.authority == "governor" else None

    def _restart(self, left: int) -> None:
        self._past.add(self._clock.now_us())
        log.warning(
            "restarting",
            because="its memory stays short with nothing buffered",
            restarts_left=left - 1,
        )
        self._stopping.set()
        self._around.restart()

    def _give_up(self, because: str) -> None:
        self._need = Need(self._need.since_s, self._need.due_at_s, given_up=True)
        metrics.MEMORY_STUCK.set(1)
        log.error("memory_stuck", because=because, then="it goes on with the smallest batches")
        self._around.go_on()
