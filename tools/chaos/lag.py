"""`lag`: a producer floods until the writer truly falls behind, level after level."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress

from libs.degradation.level import Level
from libs.market.errors import UnavailableError
from libs.runtime.doors import Door
from tools.chaos import promises
from tools.chaos.aftermath import Findings, common
from tools.chaos.flood import ALIKE, SURGING
from tools.chaos.ground import Ground
from tools.chaos.kill import doors_of
from tools.chaos.promises import Promise
from tools.chaos.story import Kind

LEVEL_TIMEOUT_S = 45.0
NORMAL_TIMEOUT_S = 90.0
# A quick writer is not behind for long, and its lag must be read meanwhile: so it is to be much
# behind, and yet just below what shows the next level.
TIMES_TRIGGER = 2.0
SHARE_OF_NEXT = 0.95
# Nothing is above the last one, and the writers decode while a burst is sent.
SURGE_TIMES_TRIGGER = 4.0
# But for a large trigger, for all of it lies in memory: then the writers may have to stand still.
MOST_TO_SPARE = 4_000_000
LEAST_TIMES_TRIGGER = 1.5
SURGE_TIMEOUT_S = 90.0
# Half of what the group waits for a member that says nothing.
LONGEST_STILL_S = 5.0
# Of what it is to be behind: a smaller burst waits for more to be missing.
LEAST_SHARE = 0.1
WAIT_S = 0.05
# A surge that has led to nothing by then was decoded.
SURGE_SEEN_S = 3.0


async def harm(ground: Ground) -> None:
    """Flood until each level has been shown, then stop, and wait for NORMAL."""
    last = aim(ground, Level.CIRCUIT_BREAK)
    ground.story.begins(f"makes {last:,} trades to flood with")
    await ground.flood.make(last, SURGING)
    log_end = 0
    for level in list(Level)[1:-1]:
        log_end = await flood_until(ground, level, log_end)
    await surge(ground)
    ground.story.note(Kind.SEEN, f"{ground.flood.total:,} trades flooded; the flood stops")
    await ground.until_normal(NORMAL_TIMEOUT_S)


async def flood_until(ground: Ground, level: Level, log_end: int) -> int:
    """Keep the writer behind by what demands this level and no higher one, until it is shown.

    Returns where the log ends at least: what was sent may be seen there a moment later, and is not
    to be sent twice.

    Raises:
        UnavailableError: the writer takes all that this machine can send.
    """
    wanted = aim(ground, level)
    ground.story.begins(f"floods until the writer is {wanted:,} records behind: {level.name}")
    began_s = time.monotonic()
    while not shown(ground, level, began_s):
        # Made beforehand a burst is in the log at once, and not decoded while the rest is made.
        await ground.flood.make(wanted, ALIKE)
        log_end = max(log_end, ground.sight.log_end)
        missing = wanted - (log_end - ground.sight.written.decoded)
        if missing >= LEAST_SHARE * wanted:
            await ground.flood.send(await ground.flood.bursts(missing, ALIKE))
            log_end += missing
        else:
            await asyncio.sleep(WAIT_S)
    return log_end


async def surge(ground: Ground) -> None:
    """Send what is critical, much of it at once, until CIRCUIT_BREAK is shown.

    Of all else the writers dispose faster than it comes. Where together they take even this as fast
    as the rest of the machine can send it, they stand still the next time while it is sent.

    Raises:
        UnavailableError: the level is not shown in time.
    """
    level, rows = Level.CIRCUIT_BREAK, aim(ground, Level.CIRCUIT_BREAK)
    ground.story.begins(f"floods with {rows:,} at once, most of them critical: {level.name}")
    began_s = time.monotonic()
    kept_up = False
    while not shown(ground, level, began_s, SURGE_TIMEOUT_S):
        bursts = await ground.flood.bursts(rows, SURGING)
        if kept_up:
            ground.story.note(Kind.SEEN, "the writers keep up: they stand still while it is sent")
        async with standing_still(doors_of(ground, "writer") if kept_up else ()):
            await ground.flood.send(bursts)
        with suppress(UnavailableError):
            await ground.until(lambda sight: sight.level is level, SURGE_SEEN_S, level.name)
        kept_up = True


@asynccontextmanager
async def standing_still(doors: Sequence[Door]) -> AsyncIterator[None]:
    """Stop these processes (SIGSTOP) while the body runs; no longer than they stay members."""

    def signal_all(number: signal.Signals) -> None:
        for door in doors:
            with suppress(ProcessLookupError):
                os.kill(door.pid, number)

    going_on = asyncio.get_running_loop().call_later(LONGEST_STILL_S, signal_all, signal.SIGCONT)
    signal_all(signal.SIGSTOP)
    try:
        yield
    finally:
        going_on.cancel()
        signal_all(signal.SIGCONT)


def shown(ground: Ground, level: Level, since_s: float, timeout_s: float = LEVEL_TIMEOUT_S) -> bool:
    """Say whether the level is shown; raises UnavailableError where that takes too long."""
    if (ground.sight.level or Level.NORMAL) >= level:
        return True
    if time.monotonic() - since_s > timeout_s:
        raise UnavailableError(
            f"the writer keeps up: {ground.sight.behind:,} records behind after"
            f" {timeout_s:g} s of flooding; a lower --scale asks for less"
        )
    return False


def aim(ground: Ground, level: Level) -> int:
    """Return how far behind shows a level and not yet the next one."""
    trigger = ground.setting.scale.trigger(level)
    if level is Level.CIRCUIT_BREAK:
        spare = min(trigger * SURGE_TIMES_TRIGGER, MOST_TO_SPARE)
        return round(max(spare, trigger * LEAST_TIMES_TRIGGER))
    following = ground.setting.scale.trigger(Level(level + 1))
    return round(min(trigger * TIMES_TRIGGER, following * SHARE_OF_NEXT))


def judged(ground: Ground, findings: Findings) -> Iterator[Promise]:
    """Hold what was seen against what is promised."""
    yield promises.rose_through_all(ground.watch.levels.in_order)
    yield promises.fell_one_by_one(ground.watch.levels.in_order)
    yield from promises.deferred_and_written(findings.deferred())
    yield from common(ground, findings)
