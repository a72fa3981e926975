"""How fast queries are over 5M rows of history and a tail of 500k, asked over gRPC.

`python -m tests.benchmarks.query_latency` builds both, starts Kafka and the service, and prints
p50, p95 and p99. VWAP of 20 symbols is 20 GetBars calls of one 1d bar each, sent together.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2

from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_producer, stop_client
from libs.kafka.send import send_values
from libs.kafka.topics import TRADES_BINANCE
from libs.lake.table.tables import bucket_of
from libs.market.errors import K2Error
from libs.market.trade import AssetClass, Origin
from libs.rpc import client
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import encode_trades, proto_batch, register_trades
from tests.support.polling import eventually
from tests.support.processes import started
from tests.support.query import History, history_in, trade_rows
from tests.support.serving import Stub, stub_on
from tools.kafka.broker import LocalKafka

HISTORY_TOPIC = "market.crypto.trades.history"
SYMBOLS = tuple(f"COIN{number:02}USDT" for number in range(20))
DAYS = 10
DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
FIRST_DAY_US = 1_722_470_400_000_000
# Past every id of the history, or the tail would leave them out as sent again.
TAIL_FIRST_ID = 100_000_000


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, and how many calls they are of."""

    name: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    calls: int

    @classmethod
    def of(cls, name: str, seconds: Sequence[float]) -> Latency:
        p50, p95, p99 = np.percentile(seconds, [50, 95, 99]) * 1_000
        return cls(name, float(p50), float(p95), float(p99), len(seconds))


def write_history(history: History, rows: int, *, days: int = DAYS) -> None:
    """Commit so many rows, a day a commit, an equal share for each symbol."""
    share = rows // days // len(SYMBOLS)
    ends: dict[int, int] = {}
    for day in range(days):
        random = np.random.default_rng(day)
        starts, batches = dict(ends), []
        for symbol in SYMBOLS:
            times = np.sort(random.integers(0, DAY_US, share)) + FIRST_DAY_US + day * DAY_US
            partition = bucket_of(symbol)
            first = ends.get(partition, 0)
            offsets = np.arange(first, first + share)
            batches.append(trade_rows(symbol, offsets, times_us=times, topic=HISTORY_TOPIC))
            ends[partition] = first + share
        spans = {partition: (starts.get(partition, 0), end) for partition, end in ends.items()}
        history.commit(pa.Table.from_batches(batches), spans)


async def send_tail(bootstrap: str, registry: Path, rows: int) -> None:
    """Send so many rows of the day after the history to the log, newest last."""
    await ensure_topics(bootstrap, [TRADES_BINANCE])
    schema_id = register_trades(SchemaRegistry(registry), TRADES_BINANCE)
    producer = await start_producer(bootstrap, "bench")
    share = rows // len(SYMBOLS)
    times = FIRST_DAY_US + DAYS * DAY_US + np.arange(share) * 1_000
    try:
        for symbol in SYMBOLS:
            batch = trade_batch(symbol, times, TAIL_FIRST_ID + np.arange(share))
            values = encode_trades(batch, schema_id)
            keys = [symbol.encode()] * share
            await send_values(producer, TRADES_BINANCE, bucket_of(symbol), keys, values)
    finally:
        await stop_client(producer)


def trade_batch(symbol: str, times_us: np.ndarray, ids: np.ndarray) -> pa.RecordBatch:
    return proto_batch(
        {
            "trade_id": [str(number) for number in ids.tolist()],
            "source_sequence": ids,
            "timestamp_us": times_us,
            "ingest_timestamp_us": times_us + 900,
            "price": [f"{60_000 + number % 1_000}.25" for number in ids.tolist()],
            "quantity": [f"0.{number % 997 + 1:05}" for number in ids.tolist()],
            "side": np.where(ids % 2, 1, 2),
        },
        {
            "exchange": "BINANCE",
            "asset_class": AssetClass.CRYPTO,
            "symbol": symbol,
            "currency": "USDT",
            "origin": Origin.STREAM,
        },
    )


def within(symbol: str, start_us: int, length_us: int) -> query_pb2.TradeFilter:
    wanted = query_pb2.TradeFilter(symbol=symbol)
    wanted.start_time.CopyFrom(stamp(start_us))
    wanted.end_time.CopyFrom(stamp(start_us + length_us))
    return wanted


def stamp(time_us: int) -> Timestamp:
    return Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1_000)


async def last_ten(stub: Stub, turn: int) -> None:
    wanted = query_pb2.TradeFilter(symbol=SYMBOLS[turn % len(SYMBOLS)])
    request = query_pb2.ListTradesRequest(filter=wanted, page_size=10)
    assert len((await client.call(stub.ListTrades, request)).trades) == 10


async def last_ten_of_history(stub: Stub, turn: int) -> None:
    """Read the last ten before a time, which no tail row helps with."""
    wanted = within(SYMBOLS[turn % len(SYMBOLS)], FIRST_DAY_US, (turn % DAYS + 1) * DAY_US)
    request = query_pb2.ListTradesRequest(filter=wanted, page_size=10)
    assert len((await client.call(stub.ListTrades, request)).trades) == 10


async def one_hour(stub: Stub, turn: int) -> None:
    start_us = FIRST_DAY_US + turn % DAYS * DAY_US + turn % 24 * HOUR_US
    wanted = within(SYMBOLS[turn % len(SYMBOLS)], start_us, HOUR_US)
    request = query_pb2.ListTradesRequest(filter=wanted, page_size=1_000)
    assert (await client.call(stub.ListTrades, request)).trades


async def minute_bars(stub: Stub, turn: int) -> None:
    wanted = within(SYMBOLS[turn % len(SYMBOLS)], FIRST_DAY_US + turn % DAYS * DAY_US, DAY_US)
    interval = query_pb2.INTERVAL_1M
    request = query_pb2.GetBarsRequest(filter=wanted, interval=interval, limit=1_440)
    assert (await client.call(stub.GetBars, request)).bars


async def day_vwaps(stub: Stub, turn: int) -> None:
    day_us = FIRST_DAY_US + turn % DAYS * DAY_US
    requests = [
        query_pb2.GetBarsRequest(
            filter=within(symbol, day_us, DAY_US), interval=query_pb2.INTERVAL_1D
        )
        for symbol in SYMBOLS
    ]
    answers = await asyncio.gather(*(client.call(stub.GetBars, asked) for asked in requests))
    assert all(answer.bars[0].vwap for answer in answers)


Query = Callable[[Stub, int], Awaitable[None]]
QUERIES: Mapping[str, tuple[Query, int]] = {
    "last 10": (last_ten, 400),
    "last 10 of history": (last_ten_of_history, 200),
    "one hour, 1,000 rows": (one_hour, 200),
    "one-minute bars of a day": (minute_bars, 200),
    "VWAP of 20 symbols over a day": (day_vwaps, 30),
}


async def measure(stub: Stub, queries: Mapping[str, tuple[Query, int]] = QUERIES) -> list[Latency]:
    """Measure each query so many times, after a tenth of that for warming up."""
    return [await repeat(stub, name, query, calls) for name, (query, calls) in queries.items()]


async def repeat(stub: Stub, name: str, query: Query, calls: int) -> Latency:
    seconds = []
    for turn in range(-max(calls // 10, 20), calls):
        began_s = time.perf_counter()
        await query(stub, turn)
        if turn >= 0:
            seconds.append(time.perf_counter() - began_s)
    return Latency.of(name, seconds)


def environment(folder: Path, history: History, bootstrap: str) -> dict[str, str]:
    return {
        "K2_KAFKA_BOOTSTRAP": bootstrap,
        "K2_CATALOG_URI": history.catalog_uri,
        "K2_WAREHOUSE": history.warehouse,
        "K2_SCHEMA_REGISTRY": str(folder / "schemas.json"),
        "K2_QUERY_SPILL_DIR": str(folder / "spill"),
        "K2_QUERY_GRPC_ADDRESS": "127.0.0.1:0",
        "K2_QUERY_METRICS_ADDRESS": "127.0.0.1:0",
    }


async def bench(folder: Path, *, history_rows: int, tail_rows: int) -> list[Latency]:
    """Build everything in a folder and measure; prints how far it is."""
    history = history_in(folder)
    await asyncio.to_thread(write_history, history, history_rows)
    say(f"{history_rows:,} rows of history")
    async with LocalKafka(folder / "kafka") as kafka:
        await send_tail(kafka.bootstrap, folder / "schemas.json", tail_rows)
        say(f"{tail_rows:,} rows on the log")
        variables = environment(folder, history, kafka.bootstrap)
        run_dir = folder / "run"
        with started("services.query", name="query-1", run_dir=run_dir, env=variables) as process:
            door = await process.door()
            async with client.channel(door.grpc or "") as channel:
                stub = stub_on(channel)
                await eventually(lambda: reads(stub, tail_rows), 120, what="the tail is read")
                say("the tail is read")
                found = await measure(stub)
            rss = psutil.Process(process.pid).memory_info().rss
            say(f"query service: {rss / 2**20:.0f} MiB resident")
    return found


async def reads(stub: Stub, tail_rows: int) -> bool:
    try:
        status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
    except K2Error:
        return False
    return status.tail_rows >= tail_rows


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        found = asyncio.run(bench(Path(name), history_rows=5_000_000, tail_rows=500_000))
    for latency in found:
        print(
            f"{latency.name:32} p50 {latency.p50_ms:7.2f}  p95 {latency.p95_ms:7.2f}"
            f"  p99 {latency.p99_ms:7.2f} ms  ({latency.calls} calls)"
        )


if __name__ == "__main__":
    main()
