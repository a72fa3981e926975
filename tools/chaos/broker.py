"""`broker`: Kafka hangs (SIGSTOP), goes on, and is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

from libs.market.errors import UnavailableError
from tools.chaos import promises
from tools.chaos.aftermath import Findings, common
from tools.chaos.ground import POLL_S, Ground
from tools.chaos.kill import BACK_TIMEOUT_S, flows_on
from tools.chaos.promises import Promise
from tools.chaos.story import Kind

HANGS_S = 8.0
UNKNOWN = "MISSING_DATA"


async def harm(ground: Ground) -> None:
    """Stop the broker for a while, let it go on, then kill it; trades keep coming."""
    await hang(ground)
    await kill(ground)
    await ground.until_normal(BACK_TIMEOUT_S)


async def hang(ground: Ground) -> None:
    """Stop the broker's process; whatever happens here, it goes on afterwards."""
    pid = broker_of(ground)
    ground.story.begins(f"stops the broker (SIGSTOP) for {HANGS_S:g} s")
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(HANGS_S)
        waiting = ground.sight.received.waiting
        text = f"{waiting:,} trades wait in the ingestor meanwhile"
        ground.story.note(Kind.SEEN, text, waiting=waiting)
    finally:
        os.kill(pid, signal.SIGCONT)
    ground.story.note(Kind.SEEN, "the broker goes on (SIGCONT)")
    await flows_on(ground, "the broker")


async def kill(ground: Ground) -> None:
    """Kill the broker, and wait until another runs on its data.

    Raises:
        UnavailableError: none does in time.
    """
    killed = broker_of(ground)
    ground.story.begins("kills the broker")
    began_s = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    while ground.fleet.broker_pid in (None, killed):
        if time.monotonic() - began_s > BACK_TIMEOUT_S:
            raise UnavailableError(f"the broker is not back after {BACK_TIMEOUT_S:g} s")
        await asyncio.sleep(POLL_S)
    await flows_on(ground, "the broker")
    took_s = time.monotonic() - began_s
    ground.story.note(Kind.SEEN, f"trades flow on {took_s:.1f} s after the kill", took_s=took_s)


def broker_of(ground: Ground) -> int:
    """Return the broker's process.

    Raises:
        UnavailableError: there is none of ours.
    """
    pid = ground.fleet.broker_pid
    if pid is None:
        raise UnavailableError("this K2's broker does not run")
    return pid


def judged(ground: Ground, findings: Findings) -> Iterator[Promise]:
    """Hold what was seen against what is promised."""
    told = (event.facts.get("waiting") for event in ground.story.events)
    waited = max((n for n in told if isinstance(n, int)), default=0)
    yield Promise("trades wait in the ingestor while Kafka hangs", waited > 0, f"{waited:,} waited")
    unknown = [e for e in ground.story.events if UNKNOWN in str(e.facts.get("causes", ""))]
    yield Promise(
        "no level changes because lag cannot be read",
        not unknown,
        f"{len(unknown)} changes while {UNKNOWN}",
    )
    yield promises.normal_in_the_end(ground.watch.levels.in_order)
    yield from common(ground, findings)
