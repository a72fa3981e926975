"""Trades of every class in one partition, a writer under orders, and the proof of each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from k2.writer.v1 import backfill_pb2, writer_pb2_grpc

from libs.degradation.level import Level
from libs.kafka.send import send_values
from libs.kafka.topics import exchange_of
from libs.lake.commits.seam import TopicPartition
from libs.lake.files.index import SnapshotIndex
from libs.lake.ledger.ledger import Shed
from libs.lake.table.tables import TRADES
from libs.market.bucket import bucket_of
from libs.market.trade import AssetClass, Origin, Side
from libs.rpc import client
from libs.wire.trades import encode_trades, proto_batch
from tests.support.directing import Director
from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.writer import FIRST_TRADE_US, Writing, status

CRITICAL, HIGH, NORMAL, LOW = "ETHUSDT", "DOGEUSDT", "BCHUSDT", "PEPEUSDT"
CLASSES = (CRITICAL, HIGH, NORMAL, LOW)
PARTITION = bucket_of(CRITICAL)
# symbol, source_sequence, kafka_offset, price
Row = tuple[str, int, int, str]


@dataclass
class Shedding:
    """A topic whose partition holds a symbol of each class, one after the other."""

    writing: Writing
    producer: AIOKafkaProducer
    director: Director
    produced: list[Row] = field(default_factory=list)
    poisoned: int = 0
    counters: Mapping[str, Iterator[int]] = field(
        default_factory=lambda: {symbol: count() for symbol in CLASSES}
    )

    def policy(self) -> Path:
        path = self.writing.folder / "policy.toml"
        exchange = exchange_of(self.writing.topic)
        path.write_text(
            f'name = "test"\n[exchanges.{exchange}]\n'
            f'critical = ["{CRITICAL}"]\nhigh = ["{HIGH}"]\nlow = ["{LOW}"]\n'
        )
        return path

    @contextmanager
    def writer(
        self, name: str = "writer-1", env: Mapping[str, str] | None = None
    ) -> Iterator[Process]:
        """Run a writer that obeys the director."""
        own = {
            "K2_GOVERNOR_ADDRESS": self.director.address,
            "K2_PRIORITY_POLICY": str(self.policy()),
        }
        with self.writing.writer(name, own | dict(env or {})) as process:
            yield process

    async def produce(self, rows: int = 4_000) -> None:
        """Send so many trades, the classes in turn."""
        await self._send([CLASSES[n % 4] for n in range(rows)])

    async def produce_only(self, symbol: str, rows: int) -> None:
        """Send so many trades of one symbol."""
        await self._send([symbol] * rows)

    async def poison(self, symbol: str, records: int) -> None:
        """Send so many records of a symbol that are no trades."""
        topic, key = self.writing.topic, symbol.encode()
        await send_values(self.producer, topic, PARTITION, [key] * records, [b"{poison}"] * records)
        self.poisoned += records

    async def forget(self, below: int) -> None:
        """Have the log forget the positions below, as retention does."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.writing.bootstrap)
        await admin.start()
        try:
            tp = KafkaPartition(self.writing.topic, PARTITION)
            await admin.delete_records({tp: RecordsToDelete(below)})
        finally:
            await admin.close()

    async def _send(self, symbols: list[str]) -> None:
        rows, first = len(symbols), self.end
        numbers = np.arange(first, first + rows)
        ids = np.array([next(self.counters[symbol]) for symbol in symbols])
        prices = [f"{n % 999 + 1}.{n % 10**6:06}" for n in numbers.tolist()]
        columns = {
            "symbol": symbols,
            "trade_id": [str(n) for n in ids.tolist()],
            "source_sequence": ids,
            "timestamp_us": FIRST_TRADE_US + numbers,
            "ingest_timestamp_us": FIRST_TRADE_US + numbers + 900,
            "price": prices,
            "quantity": ["0.5"] * rows,
        }
        same = {
            "exchange": "BINANCE",
            "asset_class": AssetClass.CRYPTO,
            "currency": "USDT",
            "side": Side.SELL,
            "origin": Origin.STREAM,
        }
        values = encode_trades(proto_batch(columns, same), self.writing.schema_id)
        keys = [symbol.encode() for symbol in symbols]
        await send_values(self.producer, self.writing.topic, PARTITION, keys, values)
        self.produced += zip(symbols, ids.tolist(), numbers.tolist(), prices, strict=True)

    async def order(
        self, writer: Process, *, lag: Level = Level.NORMAL, memory: Level = Level.NORMAL
    ) -> None:
        """Order levels, and wait until the writer acts on them, as it says itself."""
        sequence, level = self.director.order(lag=lag, memory=memory), max(lag, memory)
        await eventually(
            lambda: self.director.applied.get(writer.name, 0) >= sequence,
            60,
            what=f"{level.name} applied",
        )
        assert (await status(writer)).level == level.name

    async def committed(self, timeout_s: float = 60) -> None:
        """Wait until the table's seam has passed everything produced."""
        await eventually(lambda: self.seam() == self.end, timeout_s, what="all positions passed")

    async def settled(self, timeout_s: float = 60) -> None:
        """Wait until nothing is owed."""
        await eventually(lambda: not self.owed(), timeout_s, what="no open range")

    @property
    def end(self) -> int:
        """The log's end: every record takes a position."""
        return len(self.produced) + self.poisoned

    def index(self) -> SnapshotIndex:
        return SnapshotIndex.build(self.writing.lake.load_table(TRADES))

    def seam(self) -> int:
        return self.index().seam.get(self.writing.topic, {}).get(PARTITION, 0)

    def owed(self) -> tuple[Shed, ...]:
        place = TopicPartition(self.writing.topic, PARTITION)
        return self.index().ledger.book(place).shed

    def stored(self) -> list[Row]:
        """Return every row in the table, also one that is there twice."""
        columns = ("symbol", "source_sequence", "kafka_offset", "price")
        table = self.writing.lake.load_table(TRADES).scan(selected_fields=columns).to_arrow()
        rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
        return sorted(((s, n, o, f"{p:.6f}") for s, n, o, p in rows), key=lambda row: row[2])

    def of(self, *symbols: str) -> list[Row]:
        """Return what was produced of these symbols."""
        return [row for row in self.produced if row[0] in symbols]

    def prove_stored_or_owed(self) -> None:
        """Hold every position to the invariant: stored once, or in an open range, not both."""
        stored = self.stored()
        ranges = self.owed()
        owed = [
            row
            for row in self.produced
            if any(r.start <= row[2] < r.end and row[0] in r.symbols for r in ranges)
        ]
        assert sorted(stored + owed, key=lambda row: row[2]) == self.produced
        assert sum(r.records for r in ranges) == len(owed)


async def backfill(process: Process) -> backfill_pb2.GetBackfillResponse:
    """Ask a writer what it owes."""
    door = await process.door()
    assert door.grpc is not None
    async with client.channel(door.grpc) as channel:
        stub = writer_pb2_grpc.WriterServiceStub(channel)
        answer: backfill_pb2.GetBackfillResponse = await client.call(
            stub.GetBackfill, backfill_pb2.GetBackfillRequest()
        )
        return answer


@pytest.fixture
def shedding(writing: Writing, producer: AIOKafkaProducer, director: Director) -> Shedding:
    """Give a topic, an empty table, and a governor that obeys."""
    return Shedding(writing, producer, director)
