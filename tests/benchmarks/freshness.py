"""How old a trade is when a query can first see it, with the whole system running."""

from __future__ import annotations

import asyncio
import time

from k2.query.v1 import query_pb2, query_pb2_grpc

from libs.rpc.client import call, channel
from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.processes import peak_bytes
from tests.benchmarks.run import Run
from tools.cli.parts.fleet import Fleet, Layout, Plan, raise_failure, running
from tools.cli.session.progress import progress_of
from tools.cli.session.source import Source

TRADES_PER_SECOND = 5_000
SYMBOLS = 20
# The first commit comes after 10 s, and loads what it needs. The query service answers for the last
# minute, so the warm-up is out of it by then.
WARM_UP_S, MEASURED_S = 15.0, 62.0
FLUSH_AFTER_S = 10.0
P99_AIM_MS = 50.0


async def measure(run: Run) -> list[Figure]:
    """Run everything at 5,000 trades a second for a minute and a bit."""
    source = Source(symbols=SYMBOLS, trades_per_second=TRADES_PER_SECOND)
    plan = Plan(Layout(run.folder / "freshness"), source.exchange(), FLUSH_AFTER_S)
    run.say("starting the whole system")
    async with running(plan) as (fleet, ended):
        work = asyncio.create_task(observe(run, fleet))
        await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            raise_failure(ended)
        return [await work]


async def observe(run: Run, fleet: Fleet) -> Figure:
    began_s = time.monotonic()
    measured_s = MEASURED_S * min(run.scale, 1.0)
    run.say(f"{TRADES_PER_SECOND:,} trades/s for {WARM_UP_S + measured_s:.0f} s")
    await asyncio.sleep(WARM_UP_S)
    warm_sent, warm_s = await sent_by(fleet), time.monotonic()
    await asyncio.sleep(measured_s)
    rate = (await sent_by(fleet) - warm_sent) / (time.monotonic() - warm_s)
    found = await status_of(fleet)
    for door in fleet.doors().values():
        run.peaks.saw(door.service, peak_bytes(door.pid), f"{TRADES_PER_SECOND:,} trades/s")
    values = {"p50": found.freshness_p50_us / 1_000, "p99": found.freshness_p99_us / 1_000}
    note = f"socket to queryable at {rate:,.0f} trades/s, {time.monotonic() - began_s:.0f} s"
    return Figure("freshness", values, "ms", Aim("p99", P99_AIM_MS), note)


async def sent_by(fleet: Fleet) -> int:
    return (await progress_of(fleet.door("simulator"))).sent


async def status_of(fleet: Fleet) -> query_pb2.GetStatusResponse:
    async with channel(fleet.door("query").grpc or "") as connection:
        stub = query_pb2_grpc.QueryServiceStub(connection)
        return await call(stub.GetStatus, query_pb2.GetStatusRequest())
