"""`kill`: SIGKILL of each service in turn, at any point of its work."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

from libs.market.errors import UnavailableError
from libs.runtime.doors import Door
from tools.chaos import promises
from tools.chaos.aftermath import Findings, common
from tools.chaos.ground import POLL_S, Ground
from tools.chaos.promises import Promise
from tools.chaos.story import Kind
from tools.cli.doors.health import is_serving

SERVICES = ("ingestor", "writer", "query", "governor")
BACK_TIMEOUT_S = 60.0
# So many trades of the exchange's session flow through before the next is killed.
FLOW_RECORDS = 500


async def harm(ground: Ground) -> None:
    """Kill every process of every service once, and wait each time until it is back at work."""
    for service in SERVICES:
        for door in doors_of(ground, service):
            await kill(ground, door)
            await flows_on(ground, door.name)
    await ground.until_normal(BACK_TIMEOUT_S)


def doors_of(ground: Ground, service: str) -> list[Door]:
    doors = ground.fleet.doors().values()
    return sorted((d for d in doors if d.service == service), key=lambda door: door.name)


async def kill(ground: Ground, door: Door) -> None:
    """Kill a process, and wait until whoever runs K2 has it serve again.

    Raises:
        UnavailableError: it does not come back in time.
    """
    ground.story.begins(f"kills {door.name}")
    began_s = time.monotonic()
    os.kill(door.pid, signal.SIGKILL)
    while not await back(ground, door):
        if time.monotonic() - began_s > BACK_TIMEOUT_S:
            text = f"{door.name} is not back after {BACK_TIMEOUT_S:g} s"
            raise UnavailableError(text, process=door.name)
        await asyncio.sleep(POLL_S)
    took_s = time.monotonic() - began_s
    ground.story.note(Kind.SEEN, f"{door.name} serves again after {took_s:.1f} s", took_s=took_s)


async def back(ground: Ground, killed: Door) -> bool:
    """Say whether its successor serves."""
    door = ground.fleet.doors().get(killed.name)
    return door is not None and door.pid != killed.pid and await serves(door)


async def serves(door: Door) -> bool:
    """Say whether it works; a governor that another leads serves too, and says who does."""
    return door.service == "governor" or await is_serving(door.grpc or "")


async def flows_on(ground: Ground, after: str) -> None:
    """Wait until new trades are in the log and in answers, and there is a level."""
    goal = ground.sight.log_end + FLOW_RECORDS
    await ground.until(
        lambda s: s.committed_rows + s.tail_rows >= goal and s.level is not None,
        BACK_TIMEOUT_S,
        f"trades flow on after {after} was killed",
    )


def judged(ground: Ground, findings: Findings) -> Iterator[Promise]:
    """Hold what was seen against what is promised."""
    back_again = [e for e in ground.story.events if "took_s" in e.facts]
    wanted = sum(len(doors_of(ground, service)) for service in SERVICES)
    yield Promise(
        "each process comes back by itself",
        len(back_again) == wanted,
        "; ".join(event.text for event in back_again) or "none did",
    )
    yield promises.normal_in_the_end(ground.watch.levels.in_order)
    yield from common(ground, findings)
