"""What control costs: the governor with a hundred processes attached, and a writer its telemetry.

The hundred are agents as writers have them, in one process beside: what each of them takes is what
telemetry takes of a writer's core, and so of its throughput.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer

from libs.degradation.level import Level
from libs.kafka.admin import ensure_topics
from libs.kafka.topics import PARTITIONS, TRADES_BINANCE
from tests.benchmarks.figures import Aim, Figure, Reading
from tests.benchmarks.parts import Parts, parts
from tests.benchmarks.processes import peak_bytes, reading
from tests.benchmarks.run import Run
from tools.cli.parts.fleet import Exchange, Layout, Plan

ATTACHED = 100
SETTLING_S, MEASURED_S = 8.0, 20.0
# SOFT from 1,000 records on: a flood that is sent within milliseconds.
VARIABLES = {"K2_GOVERNOR_LAG_SCALE": "0.01"}
FLOOD_RECORDS = 2_000
TIMEOUT_S = 30.0
GOVERNOR_AIM, MEMORY_AIM_MIB, TELEMETRY_AIM, APPLIED_AIM_S = 5.0, 100.0, 1.0, 1.0


async def measure(run: Run) -> list[Figure]:
    """Attach them to one governor; measure at rest, then flood the log."""
    layout = Layout(run.folder / "control")
    async with parts(Plan(layout, Exchange(), 10.0, variables=VARIABLES)) as k2:
        run.say("starting Kafka and a governor")
        await k2.start("kafka")
        await ensure_topics(k2.fleet.bootstrap, [TRADES_BINANCE])
        await k2.start("governor-1")
        count = run.sized(ATTACHED)
        async with attached(k2, count) as processes:
            return await observe(run, k2, processes, count)


@asynccontextmanager
async def attached(k2: Parts, count: int) -> AsyncIterator[Process]:
    address = k2.fleet.door("governor").grpc or ""
    module = ("-m", "tests.benchmarks.attached", address, str(count), TRADES_BINANCE)
    child = await asyncio.create_subprocess_exec(sys.executable, *module, stdin=PIPE, stdout=PIPE)
    try:
        yield child
    finally:
        child.kill()
        await child.wait()


async def observe(run: Run, k2: Parts, processes: Process, count: int) -> list[Figure]:
    governor = k2.fleet.door("governor").pid
    await applied(processes, Level.NORMAL, 0)
    await asyncio.sleep(SETTLING_S)
    run.say(f"{count} processes report for {MEASURED_S:.0f} s")
    before = [reading(pid, 0) for pid in (governor, processes.pid)]
    await asyncio.sleep(MEASURED_S)
    after = [reading(pid, 0) for pid in (governor, processes.pid)]
    control, telemetry = (share(*both) for both in zip(before, after, strict=True))
    took_s = await flooded(k2, processes)
    note = f"{count} attached processes, each with {PARTITIONS} partitions"
    memory = peak_bytes(governor) / 2**20
    return [
        Figure("governor, CPU", {"% of a core": control}, "%", aim("% of a core"), note),
        Figure("governor, memory", {"MiB": memory}, "MiB", Aim("MiB", MEMORY_AIM_MIB), "peak"),
        Figure(
            "telemetry of a writer",
            {"% of a core": telemetry / count},
            "%",
            Aim("% of a core", TELEMETRY_AIM),
            "reading, reporting and obeying: its share of a writer that fills a core",
        ),
        Figure(
            "crossed to applied",
            {"s": took_s},
            "s",
            Aim("s", APPLIED_AIM_S),
            f"from records in the log to SOFT applied by all {count}",
        ),
    ]


def aim(value: str) -> Aim:
    return Aim(value, GOVERNOR_AIM)


def share(before: Reading, after: Reading) -> float:
    """Percent of one core between two readings."""
    return 100 * (after.cpu_s - before.cpu_s) / (after.wall_s - before.wall_s)


async def flooded(k2: Parts, processes: Process) -> float:
    """Send more than SOFT allows; return how long it took until all applied it."""
    producer = AIOKafkaProducer(bootstrap_servers=k2.fleet.bootstrap, linger_ms=5)
    async with asyncio.timeout(TIMEOUT_S):
        await producer.start()
        try:
            waits = [
                await producer.send(TRADES_BINANCE, b"x", partition=n % PARTITIONS)
                for n in range(FLOOD_RECORDS)
            ]
            await asyncio.gather(*waits)
        finally:
            began_s = time.monotonic()
            await producer.stop()
    await applied(processes, Level.SOFT, FLOOD_RECORDS // PARTITIONS)
    return time.monotonic() - began_s


async def applied(processes: Process, level: Level, end: int) -> None:
    """Tell them where the log ends, as their fetches would, and wait until all apply a level."""
    if processes.stdin is None or processes.stdout is None:
        raise AssertionError("it was started with pipes")
    processes.stdin.write(b"%d %d\n" % (level, end))
    async with asyncio.timeout(TIMEOUT_S):
        await processes.stdin.drain()
        await processes.stdout.readline()
