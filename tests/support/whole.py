"""The whole of K2 as real processes, as `k2 up` starts it, in a folder of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from libs.runtime.restarts import RestartPolicy
from tools.cli.commands.demo import visible
from tools.cli.doors.watching import flow_of
from tools.cli.parts.fleet import Fleet, Layout, Plan, running
from tools.cli.session.progress import progress_of
from tools.cli.session.source import Source

FLUSH_AFTER_S = 0.5
ARRIVAL_TIMEOUT_S = 300.0


@asynccontextmanager
async def whole_k2(
    folder: Path, source: Source, variables: Mapping[str, str] | None = None
) -> AsyncIterator[Fleet]:
    """Run everything on `folder`; a service that is killed is started again, as by `k2 up`."""
    plan = Plan(
        Layout(folder),
        source.exchange(),
        FLUSH_AFTER_S,
        restarts=RestartPolicy(),
        variables=variables or {},
    )
    async with running(plan) as (fleet, _):
        yield fleet


async def all_arrived(fleet: Fleet, trades: int) -> None:
    """Wait until the session has ended and a query can see as many rows as it had trades."""
    async with asyncio.timeout(ARRIVAL_TIMEOUT_S):
        while not await _arrived(fleet, trades):
            await asyncio.sleep(0.1)


async def _arrived(fleet: Fleet, trades: int) -> bool:
    progress = await progress_of(fleet.door("simulator"))
    return progress.done and visible(await flow_of(fleet.doors().values())) >= trades
