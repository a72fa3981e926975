"""How many trades a CPU-second takes: the ingestor from socket to Kafka, the writer to the table.

One run: the simulated exchange sends as fast as the ingestor reads, with no writer there; what then
lies in Kafka is the writer's backlog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer
from k2.writer.v1 import writer_pb2, writer_pb2_grpc

from libs.kafka.admin import end_offsets
from libs.kafka.client import start_consumer, stop_client
from libs.kafka.topics import TRADES_BINANCE
from libs.rpc.client import call, channel
from tests.benchmarks.figures import Figure, Reading, throughput
from tests.benchmarks.parts import Parts, parts
from tests.benchmarks.processes import peak_bytes, reading
from tests.benchmarks.run import Run
from tools.cli.parts.fleet import Exchange, Layout, Plan

TRADES = 2_200_000
WARM_UP_TRADES = 200_000
SYMBOLS = 20
INGESTOR_AIM, WRITER_AIM = 200_000, 400_000
FLUSH_AFTER_S = 10.0
# Each question costs the process that is measured about a millisecond.
POLL_S = 0.2
STALLED_AFTER_S = 60.0
# So long a backlog is shed but for critical symbols: what is measured is all of it being written.
NOTHING_WAITS = """
name = "nothing-waits"
[exchanges.BINANCE]
critical = ["*"]
"""


async def measure(run: Run) -> list[Figure]:
    """Measure both."""
    trades = run.sized(TRADES)
    async with parts(plan(run, trades)) as k2:
        run.say("starting Kafka and the exchange")
        await k2.start("kafka", "simulator")
        ingestor = await ingest(run, k2, trades)
        await k2.stop("ingestor-1")
        await k2.stop("simulator")
        return [ingestor, await write(run, k2, trades)]


def plan(run: Run, trades: int) -> Plan:
    session = ["--seed", "7", "--symbols", str(SYMBOLS), "--trades", str(trades)]
    arguments = ["--pace", "max", "--hold", "missing", *session]
    layout = Layout(run.folder / "throughput")
    exchange = Exchange(simulator_arguments=arguments)
    policy = run.folder / "nothing-waits.toml"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(NOTHING_WAITS)
    return Plan(layout, exchange, FLUSH_AFTER_S, variables={"K2_PRIORITY_POLICY": str(policy)})


async def ingest(run: Run, k2: Parts, trades: int) -> Figure:
    """Have the ingestor take the whole session."""
    await k2.start("ingestor-1")
    pid = k2.fleet.door("ingestor").pid
    log = await start_consumer(k2.fleet.bootstrap, "bench")
    try:
        before = await reached(pid, lambda: in_log(log), run.sized(WARM_UP_TRADES))
        run.say(f"the ingestor takes {trades:,} trades")
        after = await reached(pid, lambda: in_log(log), trades)
    finally:
        await stop_client(log)
    run.peaks.saw("ingestor", peak_bytes(pid), "as fast as it reads")
    note = f"{SYMBOLS} symbols, socket to acknowledged by Kafka"
    return throughput("ingestor, trades", before, after, aim=INGESTOR_AIM, note=note)


async def in_log(consumer: AIOKafkaConsumer) -> int:
    """Count what Kafka has acknowledged: offsets have no holes without transactions."""
    return sum((await end_offsets(consumer, TRADES_BINANCE)).values())


async def write(run: Run, k2: Parts, trades: int) -> Figure:
    """Have a writer start on the backlog and commit all of it."""
    run.say(f"the writer commits {trades:,} rows")
    starting = asyncio.create_task(k2.start("writer-1"))
    try:
        # Python's own start is not the writer's work; what it decoded by now is not counted.
        door = await k2.door("writer-1")
        async with channel(door.grpc or "") as connection:
            stub = writer_pb2_grpc.WriterServiceStub(connection)
            before = reading(door.pid, decoded(await status(stub)))
            levels: set[str] = set()
            after = await reached(door.pid, lambda: committed(stub, trades, levels), trades)
            commits = (await status(stub)).commits
    finally:
        await asyncio.wait({starting}, timeout=STALLED_AFTER_S)
    run.peaks.saw("writer", peak_bytes(door.pid), "on a backlog")
    note = f"Kafka to committed, {commits} commits, level {', '.join(sorted(levels))}"
    return throughput("writer, rows", before, after, aim=WRITER_AIM, note=note)


async def status(stub: writer_pb2_grpc.WriterServiceAsyncStub) -> writer_pb2.GetStatusResponse:
    return await call(stub.GetStatus, writer_pb2.GetStatusRequest())


def decoded(found: writer_pb2.GetStatusResponse) -> int:
    return sum(partition.decoded_offset for partition in found.partitions)


async def committed(
    stub: writer_pb2_grpc.WriterServiceAsyncStub, trades: int, levels: set[str]
) -> int:
    """Ask for the rows in the table; the last buffer need not wait for its time."""
    found = await status(stub)
    levels.add(found.level)
    if decoded(found) >= trades > found.committed_rows:
        await call(stub.Flush, writer_pb2.FlushRequest(), timeout_s=STALLED_AFTER_S)
        found = await status(stub)
    return int(found.committed_rows)


async def reached(pid: int, count: Callable[[], Awaitable[int]], wanted: int) -> Reading:
    """Wait until so many are done, and read the process at that moment.

    Raises:
        TimeoutError: nothing went on for a minute.
    """
    done = -1
    while True:
        async with asyncio.timeout(STALLED_AFTER_S):
            while (now := await count()) <= done:
                await asyncio.sleep(POLL_S)
        done = now
        if done >= wanted:
            return reading(pid, done)
        await asyncio.sleep(POLL_S)
