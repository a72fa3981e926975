"""Lag sampler: reads lag a few times a second, and says so when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from libs.market.errors import UnavailableError
from libs.runtime.actor import Actor
from services.governor.observing.fleet import MOST_PATIENCE_S, Fleet
from services.governor.observing.lag import GroupLag, Looks, group_lag
from services.governor.observing.offsets import Offsets
from services.governor.published import Published

log = structlog.get_logger()
Sample = Mapping[str, GroupLag]

# Two reports and a half, of a process that reports each second: one may be late.
FRESH_S = 2.5


class OffsetSource(Protocol):
    async def read(self) -> Offsets: ...

    async def close(self) -> None: ...


class LagSampler(Actor):
    """Sends one sample of all groups per interval; a group that cannot be read is not known.

    A report counts for `fresh_s`, longer where the process has said that it reports less often: one
    that is stopped keeps its stream, and says no more.
    """

    def __init__(
        self,
        source: OffsetSource,
        groups: Sequence[str],
        fleet: Published[Fleet],
        tell: Callable[[Sample], Awaitable[None]],
        *,
        every_s: float,
        fresh_s: float = FRESH_S,
    ) -> None:
        self.name = "lag sampler"
        self._source, self._groups, self._fleet, self._tell = source, groups, fleet, tell
        self._every_s, self._fresh_s = every_s, fresh_s
        self._looks = Looks(())
        self._unreadable = ""
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            due_s = loop.time() + self._every_s
            await self._tell(await self._sample())
            await self._rest(due_s - loop.time())

    async def stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        await self._source.close()

    async def _sample(self) -> Sample:
        try:
            offsets = await self._source.read()
        except UnavailableError as error:
            self._say(error.message)
            return {group: GroupLag(group, why=error.message) for group in self._groups}
        self._say("")
        keep_s = self._fresh_s + MOST_PATIENCE_S
        self._looks = self._looks.and_then(offsets.look, keep_s=keep_s)
        return {group: self._measure(group, offsets) for group in self._groups}

    def _measure(self, group: str, offsets: Offsets) -> GroupLag:
        since_s = offsets.look.at_s - self._fresh_s
        reported = self._fleet.value.positions(group, since_s=since_s)
        return group_lag(group, self._looks, offsets.committed[group], reported)

    def _say(self, unreadable: str) -> None:
        """Tell once of each thing that hinders, and when nothing does any more."""
        if self._unreadable and not unreadable:
            log.info("lag_readable_again")
        if unreadable and unreadable != self._unreadable:
            log.warning("lag_unreadable", because=unreadable)
        self._unreadable = unreadable

    async def _rest(self, rest_s: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, rest_s)):
                await self._stopping.wait()
        except TimeoutError:
            return
