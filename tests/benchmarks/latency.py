"""How long a query takes over gRPC: 5M rows of history, 500k of tail, while a writer commits.

What is asked is `query_latency`'s. The writer commits another topic into the same table, so that
the tail stays as long as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import grpc
import numpy as np
from k2.query.v1 import query_pb2, query_pb2_grpc
from k2.writer.v1 import writer_pb2, writer_pb2_grpc

from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_producer, stop_client
from libs.kafka.send import send_values
from libs.kafka.topics import TRADES_BINANCE
from libs.lake.table.tables import bucket_of
from libs.rpc.client import call, channel
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import encode_trades, register_trades
from tests.benchmarks import query_latency
from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.parts import Parts, parts
from tests.benchmarks.processes import peak_bytes
from tests.benchmarks.run import Run
from tests.support.query import history_in
from tools.cli.parts.fleet import Exchange, Layout, Plan

HISTORY_ROWS, TAIL_ROWS = 5_000_000, 500_000
AIMS_MS: Mapping[str, float] = {
    "last 10": 2,
    "one hour, 1,000 rows": 15,
    "one-minute bars of a day": 15,
}
# The writer's own topic and symbols: no question is about them.
WRITTEN_TOPIC = "market.crypto.trades.written"
WRITTEN_SYMBOLS = ("LEFTUSDT", "RIGHTUSDT", "UPUSDT", "DOWNUSDT")
WRITTEN_ROWS, WRITTEN_EVERY_S = 1_250, 1.0
COMMIT_EVERY_S = 2.0


async def measure(run: Run) -> list[Figure]:
    """Build history and tail, and ask."""
    history_rows, tail_rows = run.sized(HISTORY_ROWS), run.sized(TAIL_ROWS)
    plan = Plan(
        Layout(run.folder / "latency"),
        Exchange(live=True),
        COMMIT_EVERY_S,
        variables={"K2_WRITER_TOPICS": WRITTEN_TOPIC},
    )
    async with parts(plan) as k2:
        data = plan.layout.data
        run.say(f"writing {history_rows:,} rows of history")
        await asyncio.to_thread(query_latency.write_history, history_in(data), history_rows)
        await k2.start("kafka")
        run.say(f"sending {tail_rows:,} rows of tail")
        await query_latency.send_tail(k2.fleet.bootstrap, data / "schemas.json", tail_rows)
        async with writing(k2):
            return await ask(run, k2)


@asynccontextmanager
async def writing(k2: Parts) -> AsyncIterator[None]:
    """Have the writer commit 5,000 rows a second while the body runs."""
    await ensure_topics(k2.fleet.bootstrap, [WRITTEN_TOPIC, TRADES_BINANCE])
    await k2.start("writer-1", "query-1")
    feeding = asyncio.create_task(feed(k2))
    try:
        yield
    finally:
        feeding.cancel()
        await asyncio.wait({feeding})


async def feed(k2: Parts) -> None:
    """Send rows for the writer, for as long as it is let."""
    registry = SchemaRegistry(k2.fleet.layout.data / "schemas.json")
    schema_id = register_trades(registry, WRITTEN_TOPIC)
    producer = await start_producer(k2.fleet.bootstrap, "bench")
    try:
        for symbol, values in rows_without_end(schema_id):
            keys = [symbol.encode()] * len(values)
            await send_values(producer, WRITTEN_TOPIC, bucket_of(symbol), keys, values)
            await asyncio.sleep(WRITTEN_EVERY_S / len(WRITTEN_SYMBOLS))
    finally:
        await stop_client(producer)


def rows_without_end(schema_id: int) -> Iterator[tuple[str, list[bytes]]]:
    first = 0
    while True:
        ids = np.arange(first, first + WRITTEN_ROWS)
        for symbol in WRITTEN_SYMBOLS:
            times_us = query_latency.FIRST_DAY_US + ids * 1_000
            yield symbol, encode_trades(query_latency.trade_batch(symbol, times_us, ids), schema_id)
        first += WRITTEN_ROWS


async def ask(run: Run, k2: Parts) -> list[Figure]:
    """Ask everything; whatever the writer commits meanwhile is said with it."""
    query, writer = k2.fleet.door("query"), k2.fleet.door("writer")
    async with channel(query.grpc or "") as asked, channel(writer.grpc or "") as watched:
        stub = query_pb2_grpc.QueryServiceStub(asked)
        held = await call(stub.GetStatus, query_pb2.GetStatusRequest())
        over = f"{held.committed_rows:,} rows, {held.tail_rows:,} of tail"
        before = await commits_of(watched)
        found = []
        for name, repeated in query_latency.QUERIES.items():
            run.say(f"asking over {over}: {name}")
            found += await query_latency.measure(stub, {name: repeated})
        commits = await commits_of(watched) - before
    run.peaks.saw("query", peak_bytes(query.pid), over)
    return [figure(latency, f"{over}; {commits} commits meanwhile") for latency in found]


async def commits_of(connection: grpc.aio.Channel) -> int:
    stub = writer_pb2_grpc.WriterServiceStub(connection)
    return int((await call(stub.GetStatus, writer_pb2.GetStatusRequest())).commits)


def figure(latency: query_latency.Latency, over: str) -> Figure:
    values = {"p50": latency.p50_ms, "p95": latency.p95_ms, "p99": latency.p99_ms}
    aim_ms = AIMS_MS.get(latency.name)
    aim = None if aim_ms is None else Aim("p50", aim_ms)
    return Figure(latency.name, values, "ms", aim, f"{latency.calls} calls over gRPC; {over}")
