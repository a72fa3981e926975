"""A query service on a topic and table of a test's own, and what it must answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from aiokafka import AIOKafkaProducer
from k2.query.v1 import query_pb2, query_pb2_grpc

from libs.kafka.send import send_values
from libs.lake.table.tables import bucket_of
from libs.market.trade import AssetClass, Origin
from libs.rpc import client
from libs.runtime.service import running
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import encode_trades, proto_batch, register_trades
from services.query.answers import decimal_text
from services.query.app import build
from services.query.config import QueryConfig
from tests.support.clock import ManualClock
from tests.support.polling import eventually
from tests.support.query import History, history_in, trade_rows

HOUR_US = 3_600_000_000
# More than any machine's: memory sets no level.
ROOMY_BYTES = 2**36

Stub: TypeAlias = "query_pb2_grpc.QueryServiceAsyncStub"


@dataclass
class QueryWorld:
    """The log, the table and what was sent; a symbol's offsets are its rows' numbers."""

    bootstrap: str
    topic: str
    folder: Path
    producer: AIOKafkaProducer
    history: History
    schema_id: int
    # The writers' clock: an hour behind, so that minutes may pass while a test runs.
    clock: ManualClock
    sent: dict[str, int] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)

    def rows(self, symbol: str, start: int, end: int) -> pa.RecordBatch:
        """Say what the rows are, trade times a second apart."""
        return trade_rows(symbol, range(start, end), topic=self.topic)

    async def send(self, symbol: str, rows: int) -> None:
        """Send so many more trades of a symbol."""
        start = self.sent.get(symbol, 0)
        values = self.values(symbol, self.rows(symbol, start, start + rows))
        partition = bucket_of(symbol)
        await send_values(self.producer, self.topic, partition, [symbol.encode()] * rows, values)
        self.sent[symbol] = start + rows

    def values(self, symbol: str, batch: pa.RecordBatch) -> list[bytes]:
        """Encode rows as the records they come from."""
        texts = {
            name: [decimal_text(v) for v in batch[name].to_pylist()]
            for name in ("price", "quantity")
        }
        trades = proto_batch(
            {
                "trade_id": batch["trade_id"],
                "source_sequence": batch["source_sequence"],
                "timestamp_us": batch["timestamp"].view(pa.int64()),
                "ingest_timestamp_us": batch["ingest_timestamp"].view(pa.int64()),
                "vendor_data": batch["vendor_data"],
                "side": pa.array(np.where(pc.equal(batch["side"], "BUY"), 1, 2)),
                **texts,
            },
            {
                "exchange": "BINANCE",
                "asset_class": AssetClass.CRYPTO,
                "symbol": symbol,
                "currency": "USDT",
                "origin": Origin.STREAM,
            },
        )
        return encode_trades(trades, self.schema_id)

    async def commit(self, symbol: str, rows: int) -> int:
        """Commit so many more of a symbol's rows; return the snapshot."""
        start = self.committed.get(symbol, 0)
        self.committed[symbol] = start + rows
        batch = self.rows(symbol, start, start + rows)
        span = {bucket_of(symbol): (start, start + rows)}
        return (await asyncio.to_thread(self.history.commit, batch, span)).snapshot_id

    def config(self) -> QueryConfig:
        return QueryConfig(
            kafka_bootstrap=self.bootstrap,
            catalog_uri=self.history.catalog_uri,
            warehouse=self.history.warehouse,
            schema_registry=self.folder / "schemas.json",
            topics=(self.topic,),
            spill_dir=self.folder / "spill",
            grpc_address="127.0.0.1:0",
            metrics_address="127.0.0.1:0",
            memory_limit_bytes=ROOMY_BYTES,
            engine_threads=1,
            catalog_poll_s=0.05,
            log_check_s=0.2,
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Stub]:
        """Run the service while the body runs, from when it says that it serves."""
        service = await build(self.config())
        async with running(service) as run, client.channel(run.grpc_address) as channel:
            await eventually(service.ready, 30, what="the query service is ready")
            yield stub_on(channel)


def stub_on(channel: grpc.aio.Channel) -> Stub:
    return query_pb2_grpc.QueryServiceStub(channel)


async def list_all(stub: Stub, request: query_pb2.ListTradesRequest) -> list[query_pb2.Trade]:
    """Read page after page to the end."""
    trades: list[query_pb2.Trade] = []
    asked = query_pb2.ListTradesRequest()
    asked.CopyFrom(request)
    while True:
        page = await client.call(stub.ListTrades, asked)
        trades += page.trades
        if not page.next_page_token:
            return trades
        asked.page_token = page.next_page_token


async def read_all(stub: Stub, request: query_pb2.ReadTradesRequest) -> pa.Table:
    """Read a whole Arrow stream."""
    tables = []
    async with aclosing(client.stream(stub.ReadTrades, request)) as responses:
        async for response in responses:
            tables.append(pa.ipc.open_stream(response.arrow_ipc).read_all())  # noqa: PERF401
    return pa.concat_tables(tables)


@pytest.fixture
def query_world(kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path) -> QueryWorld:
    schema_id = register_trades(SchemaRegistry(tmp_path / "schemas.json"), topic)
    clock = ManualClock(time.time_ns() // 1_000 - HOUR_US)
    history = history_in(tmp_path, clock)
    return QueryWorld(kafka, topic, tmp_path, producer, history, schema_id, clock)
