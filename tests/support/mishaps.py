"""What can go wrong with a running K2, each as harm and healing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from pyiceberg.exceptions import CommitFailedException

from libs.kafka.client import start_admin, stop_client
from libs.lake.table.tables import TRADES, bucket_of
from libs.market.errors import K2Error
from tests.support import foreign
from tests.support.outages import catalog_away, catalog_locked
from tests.support.polling import within
from tests.support.processes import Process, arm, disarm, started
from tests.support.stack import WRITERS, Stack, writer_variables

POINTS = (
    "writer.after_fetch",
    "writer.mid_file",
    "writer.after_upload",
    "writer.after_dead_letters",
    "writer.before_build",
    "writer.before_send",
    "catalog.before_landing",
    "catalog.after_landing",
    "writer.after_commit",
    "writer.before_offsets",
    "writer.after_offsets",
    "backfill.after_fetch",
    "backfill.before_send",
    "backfill.after_commit",
    "maintenance.after_upload",
    "maintenance.before_send",
    "maintenance.after_commit",
)
REACHED_WITHIN_S = 8.0
HOUR_S = 3_600

Harm = Callable[[Stack, Random], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Mishap:
    """One kind of harm; two that need the same thing do not happen at once.

    `tells`: what it answers is worth counting.
    """

    harm: Harm
    needs: str
    weight: int = 2
    tells: bool = False


def any_writer(stack: Stack, random: Random) -> Process:
    return stack.processes[random.choice(WRITERS)]


@asynccontextmanager
async def held_down(stack: Stack, *names: str) -> AsyncIterator[None]:
    """Have these processes end in the body, and run again after it."""
    stack.down |= set(names)
    try:
        yield
    finally:
        for name in names:
            if not stack.processes[name].alive:
                stack.processes[name].restart()
        stack.down -= set(names)


async def a_writer_killed(stack: Stack, random: Random) -> str:
    writer = any_writer(stack, random)
    async with held_down(stack, writer.name):
        writer.kill()
        await asyncio.sleep(random.uniform(0, 3))
    return writer.name


async def a_writer_killed_at_a_point(stack: Stack, random: Random) -> str:
    """Kill whoever comes to the point first, or nobody where it is not reached in time."""
    point, folder = random.choice(POINTS), stack.writing.fault_dir
    for mark in folder.glob(f"{point}.*.reached"):
        mark.unlink()
    arm(folder, point)
    try:
        async with held_down(stack, *WRITERS):
            found = await within(
                lambda: next(folder.glob(f"{point}.*.reached"), None), REACHED_WITHIN_S
            )
            if found is not None:
                kill_writer(stack, int(found.name.split(".")[-2]))
                return point
    finally:
        disarm(folder, point)
    return ""


def kill_writer(stack: Stack, pid: int) -> None:
    """Kill one of ours, or the guest, who may be gone by now."""
    ours = [writer for writer in stack.writers if writer.pid == pid]
    for writer in ours:
        writer.kill()
    if not ours:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def a_writer_asleep(stack: Stack, random: Random) -> str:
    writer = any_writer(stack, random)
    writer.pause()
    await asyncio.sleep(random.uniform(1, 6))
    writer.resume()
    return writer.name


async def a_writer_stopped(stack: Stack, random: Random) -> str:
    writer = any_writer(stack, random)
    async with held_down(stack, writer.name):
        await asyncio.to_thread(writer.stop, 60)
    return writer.name


async def a_third_writer(stack: Stack, random: Random) -> str:
    """Have it join, and leave by either door."""
    env = writer_variables(stack.writing, "writer-3", "127.0.0.1:1")
    run_dir = stack.writing.folder / "run"
    with started("services.writer", name="writer-3", run_dir=run_dir, env=env) as guest:
        await asyncio.sleep(random.uniform(3, 8))
        if guest.alive and random.random() < 0.5:
            await asyncio.to_thread(guest.stop, 60)
            return "stopped"
    return "killed"


async def the_broker_down(stack: Stack, random: Random) -> str:
    how = random.choice(("killed", "stopped"))
    if how == "killed" and stack.broker.pid is not None:
        os.kill(stack.broker.pid, signal.SIGKILL)
    await asyncio.to_thread(stack.broker.stop)
    await asyncio.sleep(random.uniform(0, 3))
    await asyncio.to_thread(stack.broker.start)
    return how


async def the_catalog_locked(stack: Stack, random: Random) -> str:
    with catalog_locked(stack.writing):
        await asyncio.sleep(random.uniform(1, 8))
    return ""


async def the_catalog_away(stack: Stack, random: Random) -> str:
    with catalog_away(stack.writing):
        await asyncio.sleep(random.uniform(1, 8))
    return ""


async def a_commit_that_says_nothing(stack: Stack, random: Random) -> str:
    """Hold a commit around its landing until its writer has given it up."""
    point = random.choice(("catalog.before_landing", "catalog.after_landing"))
    arm(stack.writing.fault_dir, point)
    try:
        await asyncio.sleep(12)
    finally:
        disarm(stack.writing.fault_dir, point)
    return point


async def the_disk_full(stack: Stack, random: Random) -> str:
    assert stack.disk is not None
    await asyncio.to_thread(stack.disk.fill)
    await asyncio.sleep(random.uniform(2, 6))
    stack.disk.free()
    return ""


async def the_clock_stepped(stack: Stack, random: Random) -> str:
    """Set the clock of a writer an hour off, either way, and right again later."""
    step = stack.step_of(random.choice(WRITERS))
    seconds = random.choice((HOUR_S, -HOUR_S))
    step.write_text(str(seconds))
    await asyncio.sleep(random.uniform(2, 10))
    step.write_text("0")
    return f"{seconds:+} s"


async def the_query_killed(stack: Stack, random: Random) -> str:
    async with held_down(stack, "query-1"):
        stack.processes["query-1"].kill()
    return ""


async def the_governor_gone(stack: Stack, random: Random) -> str:
    async with held_down(stack, "governor-1"):
        stack.processes["governor-1"].kill()
        await asyncio.sleep(random.uniform(0, 6))
    return ""


async def a_surge(stack: Stack, random: Random) -> str:
    """Send more than the writers may fall behind by, while they sleep."""
    for writer in stack.writers:
        writer.pause()
    try:
        await stack.flow.send(random.choice((1_500, 3_000)))
    finally:
        for writer in stack.writers:
            writer.resume()
    return ""


async def poison(stack: Stack, random: Random) -> str:
    for _ in range(random.randint(1, 10)):
        dirty = [symbol for symbol in stack.flow.symbols if symbol not in stack.flow.clean]
        partition = bucket_of(random.choice(dirty))
        size = random.choice((1, 50, 900_000))
        async with asyncio.timeout(30):
            await stack.producer.send_and_wait(
                stack.writing.topic, random.randbytes(size), key=b"?", partition=partition
            )
    return ""


async def retention_too_fast(stack: Stack, random: Random) -> str:
    """Take records from the log that no writer has read."""
    symbol = random.choice(stack.flow.symbols)
    async with held_down(stack, *WRITERS):
        for writer in stack.writers:
            writer.kill()
        await stack.flow.send(400)
        await stack.log.read()
        end = stack.log.ends[bucket_of(symbol)]
        place = TopicPartition(stack.writing.topic, bucket_of(symbol))
        admin: AIOKafkaAdminClient = await start_admin(stack.writing.bootstrap, "retention")
        try:
            async with asyncio.timeout(30):
                await admin.delete_records({place: RecordsToDelete(end - random.randint(0, 300))})
        finally:
            await stop_client(admin)
    return symbol


async def a_foreign_rewrite(stack: Stack, random: Random) -> str:
    table = await asyncio.to_thread(stack.writing.lake.load_table, TRADES)
    return f"{await asyncio.to_thread(foreign.rewrite, table)} files"


MISHAPS: Mapping[str, Mishap] = {
    "a writer killed": Mishap(a_writer_killed, "writers", 4),
    "a writer killed at a named point": Mishap(
        a_writer_killed_at_a_point, "writers", 8, tells=True
    ),
    "a writer asleep (SIGSTOP)": Mishap(a_writer_asleep, "writers", 4),
    "a writer stopped": Mishap(a_writer_stopped, "writers"),
    "retention faster than the writers": Mishap(retention_too_fast, "writers"),
    "a surge": Mishap(a_surge, "writers", 4),
    "a commit of which nothing is heard": Mishap(a_commit_that_says_nothing, "writers"),
    "a third writer": Mishap(a_third_writer, "guest"),
    "the broker down": Mishap(the_broker_down, "broker"),
    "the catalog locked": Mishap(the_catalog_locked, "table"),
    "the catalog away": Mishap(the_catalog_away, "table"),
    "the disk full": Mishap(the_disk_full, "table"),
    "a foreign rewrite": Mishap(a_foreign_rewrite, "table"),
    "the clock stepped": Mishap(the_clock_stepped, "clock"),
    "the query service killed": Mishap(the_query_killed, "query"),
    "the governor gone": Mishap(the_governor_gone, "governor"),
    "poison": Mishap(poison, "log"),
}
# What a mishap may run into because another is under way.
TOLERATED = (K2Error, OSError, TimeoutError, CommitFailedException)
