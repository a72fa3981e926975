"""`lag`: a producer floods until the writer truly falls behind, level after level."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import suppress

from libs.degradation.level import Level
from libs.market.errors import UnavailableError
from tools.chaos import promises
from tools.chaos.aftermath import Findings, common
from tools.chaos.flood import ALIKE, SURGING
from tools.chaos.ground import Ground
from tools.chaos.promises import Promise
from tools.chaos.story import Kind

LEVEL_TIMEOUT_S = 45.0
NORMAL_TIMEOUT_S = 90.0
# A burst is at most so large, so that what follows from it is seen before the next; after the last
# level there is none.
MOST_A_BURST = 60_000
LEAST_A_BURST = 2_000
WAIT_S = 0.05
SEEN_TIMEOUT_S = 2.0


async def harm(ground: Ground) -> None:
    """Flood until each level has been shown, then stop, and wait for NORMAL."""
    last = aim(ground, Level.CIRCUIT_BREAK)
    ground.story.begins(f"makes {last:,} trades to flood with")
    await ground.flood.make(last, SURGING)
    for level in list(Level)[1:]:
        await flood_until(ground, level)
    ground.story.note(Kind.SEEN, f"{ground.flood.total:,} trades flooded; the flood stops")
    await ground.until_normal(NORMAL_TIMEOUT_S)


async def flood_until(ground: Ground, level: Level) -> None:
    """Keep the writer behind by what demands this level and no higher one, until it is shown.

    At the last level what is critical surges: of all else the writer disposes faster than it comes.

    Raises:
        UnavailableError: the writer takes all that this machine can send.
    """
    wanted = aim(ground, level)
    mix = SURGING if level is Level.CIRCUIT_BREAK else ALIKE
    most = wanted if level is Level.CIRCUIT_BREAK else MOST_A_BURST
    ground.story.begins(f"floods until the writer is {wanted:,} records behind: {level.name}")
    began_s = time.monotonic()
    while (ground.sight.level or Level.NORMAL) < level:
        if time.monotonic() - began_s > LEVEL_TIMEOUT_S:
            raise UnavailableError(
                f"the writer keeps up: {ground.sight.behind:,} records behind after"
                f" {LEVEL_TIMEOUT_S:g} s of flooding; a lower --scale asks for less"
            )
        missing = wanted - ground.sight.behind
        if missing > 0:
            log_end = ground.sight.log_end
            burst = min(max(missing, LEAST_A_BURST), most)
            await ground.flood.send(burst, mix)
            if level is not Level.CIRCUIT_BREAK:
                await seen(ground, log_end + burst)
        else:
            await asyncio.sleep(WAIT_S)


async def seen(ground: Ground, log_end: int) -> None:
    """Wait until the log is seen to reach so far: twice the burst could leap over a level."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SEEN_TIMEOUT_S):
            while ground.sight.log_end < log_end:
                await asyncio.sleep(WAIT_S)


def aim(ground: Ground, level: Level) -> int:
    """Return how far behind shows a level and not yet the next one."""
    trigger = ground.setting.scale.trigger(level)
    if level is Level.CIRCUIT_BREAK:
        return round(trigger * 1.2)
    following = ground.setting.scale.trigger(Level(level + 1))
    return round(math.sqrt(trigger * following))


def judged(ground: Ground, findings: Findings) -> Iterator[Promise]:
    """Hold what was seen against what is promised."""
    yield promises.rose_through_all(ground.watch.levels.in_order)
    yield promises.fell_one_by_one(ground.watch.levels.in_order)
    yield from promises.deferred_and_written(findings.deferred())
    yield from common(ground, findings)
