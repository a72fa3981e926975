"""Parts of K2, started one by one as `k2 up` starts them, in a folder of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from libs.runtime.doors import Door
from tools.cli.parts.children import Part
from tools.cli.parts.fleet import Fleet, Plan

POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Parts:
    """A fleet whose parts wait for `start`."""

    fleet: Fleet
    by_name: dict[str, Part]

    async def start(self, *names: str) -> None:
        """Start these, one after the other; each serves before the next one starts."""
        for name in names:
            await self.by_name[name].start()

    async def stop(self, name: str) -> None:
        await self.by_name[name].close()

    async def door(self, name: str) -> Door:
        """Wait for the door of a part that is being started."""
        while (door := self.fleet.doors().get(name)) is None:
            await asyncio.sleep(POLL_S)
        return door


@asynccontextmanager
async def parts(plan: Plan) -> AsyncIterator[Parts]:
    """Give the parts, none of them started; leaving ends those that are."""
    plan.layout.make()
    fleet = Fleet(plan)
    all_parts = fleet.parts()
    try:
        yield Parts(fleet, {part.name: part for part in all_parts})
    finally:
        for part in reversed(all_parts):
            await part.close()
        await fleet.close()
