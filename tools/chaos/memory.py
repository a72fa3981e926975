"""`memory`: a writer truly reaches its limit, by load, by ballast, and by what is never freed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from libs.degradation.level import MEMORY_THRESHOLDS, Level
from libs.degradation.memory import cgroup_memory
from libs.market.errors import UnavailableError
from libs.runtime.doors import Door
from tools.chaos import promises
from tools.chaos.aftermath import Findings, common, flush_writers
from tools.chaos.flood import ALIKE
from tools.chaos.ground import POLL_S, Ground
from tools.chaos.kill import back
from tools.chaos.promises import Promise
from tools.chaos.scale import MIB
from tools.chaos.story import Event, Kind

WRITER = "writer-1"
LOAD_TRADES = 600_000
STORED_BUT_FOR = 20_000
A_BURST = 20_000
LOAD_TIMEOUT_S = 120.0
LEVEL_TIMEOUT_S = 30.0
NORMAL_TIMEOUT_S = 90.0
RESTART_TIMEOUT_S = 60.0
# Above a trigger by this share of the limit, below the next one by more.
ABOVE = 0.012
# The rest of what was ordered, and what the writer gives back meanwhile, come with the next order.
TAKEN_SHARE = 0.9
TAKEN_TIMEOUT_S = 0.7
# Whoever goes beyond a cgroup's limit is killed: there nothing is ordered on a guess.
TAKEN_FOR_CERTAIN_TIMEOUT_S = 20.0

LOAD = "loads the writer with trades until all are in the table"
RAMP = "has the writer hold more and more memory"
KEEPS = "has the writer hold memory that it never gives back"
CURED = "the writer was started anew"


@dataclass(frozen=True, slots=True)
class Ballast:
    """What a process is ordered to hold; the order is a file that it reads (libs/runtime)."""

    folder: Path
    process: str

    def hold(self, mib: int, *, kept_by: int | None = None) -> None:
        """Order so much; what the process of an id keeps, none that comes after it takes again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self._order.with_suffix(".ballast-new")
        beside.write_text(f"{mib}{f' keep by {kept_by}' if kept_by else ''}\n")
        beside.replace(self._order)

    def let_go(self) -> None:
        """Order nothing any more."""
        self._order.unlink(missing_ok=True)

    @property
    def _order(self) -> Path:
        return self.folder / f"{self.process}.ballast"


async def harm(ground: Ground) -> None:
    """Reach the limit three times, and wait for NORMAL after each."""
    ballast = Ballast(ground.setting.faults, WRITER)
    try:
        await by_load(ground)
        await by_ballast(ground, ballast)
        await by_what_is_never_freed(ground, ballast)
    finally:
        ballast.let_go()


async def by_load(ground: Ground) -> None:
    """Send more than fits into the writer's memory at once; what it does about it is seen.

    Raises:
        UnavailableError: they are not in the table in time.
    """
    ground.story.begins(LOAD)
    began_s = time.monotonic()
    goal, most_bytes = ground.flood.total + LOAD_TRADES, 0
    while ground.flood.total < goal or ground.sight.tail_rows > STORED_BUT_FOR:
        if time.monotonic() - began_s > LOAD_TIMEOUT_S:
            text = f"{ground.sight.tail_rows:,} trades are not in the table"
            raise UnavailableError(f"{text} after {LOAD_TIMEOUT_S:g} s")
        most_bytes = max(most_bytes, used_bytes(ground))
        if ground.flood.total < goal:
            await ground.flood.send(await ground.flood.bursts(A_BURST, ALIKE))
        elif ground.sight.behind == 0:
            await flush_writers(ground)
        else:
            await asyncio.sleep(POLL_S)
    led_to = max(ground.watch.memory_levels.since(ground.story.began(LOAD)))
    ground.story.note(
        Kind.SEEN,
        f"{LOAD_TRADES:,} trades came in at once: {most_bytes // MIB} MiB at most, {led_to.name}",
    )
    await ground.until_normal(NORMAL_TIMEOUT_S)


async def by_ballast(ground: Ground, ballast: Ballast) -> None:
    """Show all five levels, give the memory back, and come down one by one."""
    ground.story.begins(RAMP)
    held_mib = 0
    for level in list(Level)[1:]:
        held_mib = await ballast_until(ground, ballast, level, held_mib)
    ballast.let_go()
    ground.story.note(Kind.SEEN, f"{held_mib} MiB are given back")
    await ground.until_normal(NORMAL_TIMEOUT_S)


async def ballast_until(ground: Ground, ballast: Ballast, level: Level, held_mib: int) -> int:
    """Have the writer hold what demands this level and no higher one; return how much.

    Raises:
        UnavailableError: the level is not shown in time.
    """
    began_s = time.monotonic()
    while ground.sight.governed.memory_level < level:
        if time.monotonic() - began_s > LEVEL_TIMEOUT_S:
            raise UnavailableError(f"{level.name} is not shown with {held_mib} MiB of ballast")
        held_mib = await topped_up(ground, ballast, level, held_mib)
        await asyncio.sleep(POLL_S)
    return held_mib


async def topped_up(
    ground: Ground, ballast: Ballast, level: Level, held_mib: int, *, kept_by: int | None = None
) -> int:
    """Order what is missing to this level, for the writer gives back of its own; return all of it.

    Raises:
        UnavailableError: the writer does not run.
    """
    used = used_bytes(ground)
    missing = wanted_bytes(ground, level) - used
    if missing <= 0:
        return held_mib
    held_mib += -(-missing // MIB)
    ballast.hold(held_mib, kept_by=kept_by)
    await taken(ground, used + round(missing * TAKEN_SHARE))
    return held_mib


async def taken(ground: Ground, least_bytes: int) -> None:
    """Wait until what was ordered is there: it is not to be ordered twice."""
    certain = ground.setting.scale.cgroup
    with suppress(TimeoutError):
        async with asyncio.timeout(TAKEN_FOR_CERTAIN_TIMEOUT_S if certain else TAKEN_TIMEOUT_S):
            while used_bytes(ground) < least_bytes:
                await asyncio.sleep(POLL_S)


async def by_what_is_never_freed(ground: Ground, ballast: Ballast) -> None:
    """Have an allocator that gives nothing back: only a process started anew is cured of it."""
    door, held_mib = writer_of(ground), 0
    ground.story.begins(KEEPS)
    began_s = time.monotonic()
    while not await back(ground, door):
        if time.monotonic() - began_s > RESTART_TIMEOUT_S:
            raise UnavailableError(f"{WRITER} was not started anew in {RESTART_TIMEOUT_S:g} s")
        # It may end meanwhile: that is what is waited for.
        with suppress(UnavailableError):
            if writer_of(ground).pid == door.pid:
                held_mib = await topped_up(
                    ground, ballast, Level.CIRCUIT_BREAK, held_mib, kept_by=door.pid
                )
        await asyncio.sleep(POLL_S)
    took_s = time.monotonic() - began_s
    pid = writer_of(ground).pid
    ground.story.note(Kind.SEEN, f"{CURED} and serves after {took_s:.1f} s", pid=pid)
    await ground.until_normal(NORMAL_TIMEOUT_S)


def wanted_bytes(ground: Ground, level: Level) -> int:
    limit_bytes = (ground.setting.scale.writer_limit_mib or 0) * MIB
    return round(limit_bytes * (MEMORY_THRESHOLDS.trigger(level) + ABOVE))


def used_bytes(ground: Ground) -> int:
    """Measure what the writer has resident, or its cgroup counts, beside its own reports."""
    try:
        pid = writer_of(ground).pid
        counted = cgroup_memory(own=Path(f"/proc/{pid}/cgroup"))
        if ground.setting.scale.cgroup and counted is not None:
            return counted.used_bytes
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error as error:
        raise UnavailableError(f"{WRITER} does not run") from error


def writer_of(ground: Ground) -> Door:
    """Return the writer's door.

    Raises:
        UnavailableError: it has none; where the kernel has killed it, another comes.
    """
    door = ground.fleet.doors().get(WRITER)
    if door is None:
        raise UnavailableError(f"{WRITER} does not run")
    return door


def judged(ground: Ground, findings: Findings) -> Iterator[Promise]:
    """Hold what was seen against what is promised."""
    story = ground.story
    ramp = ground.watch.memory_levels.since(story.began(RAMP), story.began(KEEPS))
    yield promises.rose_through_all(ramp)
    yield promises.fell_one_by_one(ramp)
    yield cured_by_one(story.events, writer_of(ground).pid)
    shed = sum(findings.last.shed.values())
    yield Promise("nothing is put off for memory's sake", shed == 0, f"{shed:,} put off")
    yield promises.normal_in_the_end(ground.watch.levels.in_order)
    yield from common(ground, findings)


def cured_by_one(events: Sequence[Event], pid_now: int) -> Promise:
    """Say whether the first process that was started anew is the one that runs still."""
    cured = [event for event in events if event.text.startswith(CURED)]
    seen = "; ".join(event.text for event in cured) or "it was not started anew"
    again = any(event.facts["pid"] != pid_now for event in cured)
    return Promise(
        "what is never freed is cured by one restart",
        len(cured) == 1 and not again,
        f"{seen}, and started anew again" if again else seen,
    )
