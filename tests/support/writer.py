"""A writer process on a table and topic of a test's own, and the proof that it lost nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaProducer
from k2.writer.v1 import writer_pb2, writer_pb2_grpc

from libs.kafka.send import send_values
from libs.lake.commits.seam import Seam, seam_of
from libs.lake.table.catalog import Lake, open_lake
from libs.lake.table.tables import TRADES, ensure_trades
from libs.market.trade import AssetClass, Origin, Side
from libs.rpc import client
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import encode_trades, proto_batch, register_trades
from tests.support.polling import eventually
from tests.support.processes import Process, started

# Symbols whose buckets are these partitions.
SYMBOLS = {"BTCUSDT": 3, "ETHUSDT": 13}
FIRST_TRADE_US = 1_723_107_600_000_000
# A killed writer's partitions are free so soon; and a writer that stands still loses its own.
SOON_FREE = {"K2_WRITER_SESSION_TIMEOUT_MS": "1500"}
PROOF_COLUMNS = [
    "kafka_partition",
    "kafka_offset",
    "symbol",
    "trade_id",
    "source_sequence",
    "timestamp",
    "price",
    "quantity",
    "notional",
]


@dataclass
class Writing:
    """Where a test's writers read and write, and what was produced for them."""

    bootstrap: str
    topic: str
    folder: Path
    schema_id: int
    session_timeout_ms: int = 1_500
    expected: list[pa.Table] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    @property
    def fault_dir(self) -> Path:
        return self.folder / "faults"

    @property
    def catalog(self) -> Path:
        return self.folder / "catalog.db"

    @property
    def lake(self) -> Lake:
        return open_lake(f"sqlite:///{self.catalog}", self.folder / "warehouse")

    def environment(self) -> dict[str, str]:
        return {
            "K2_KAFKA_BOOTSTRAP": self.bootstrap,
            "K2_CATALOG_URI": f"sqlite:///{self.catalog}",
            "K2_WAREHOUSE": str(self.folder / "warehouse"),
            "K2_SCHEMA_REGISTRY": str(self.folder / "schemas.json"),
            "K2_WRITER_TOPICS": self.topic,
            "K2_WRITER_GROUP": f"group-{self.topic}",
            "K2_WRITER_GRPC_ADDRESS": "127.0.0.1:0",
            "K2_WRITER_METRICS_ADDRESS": "127.0.0.1:0",
            "K2_WRITER_FLUSH_AFTER_S": "0.3",
            "K2_WRITER_SESSION_TIMEOUT_MS": str(self.session_timeout_ms),
            "K2_WRITER_HEARTBEAT_MS": "200",
            "K2_FAULT_DIR": str(self.fault_dir),
        }

    @contextmanager
    def writer(
        self, name: str = "writer-1", env: Mapping[str, str] | None = None
    ) -> Iterator[Process]:
        """Run a writer while the body runs."""
        environment = self.environment() | dict(env or {})
        with started(
            "services.writer", name=name, run_dir=self.folder / "run", env=environment
        ) as process:
            yield process

    async def produce(self, producer: AIOKafkaProducer, rows: int = 3_000) -> None:
        """Send so many trades of each symbol, and remember them."""
        for symbol, partition in SYMBOLS.items():
            first = self.ends.get(partition, 0)
            ids = np.arange(first, first + rows)
            price = [f"{n % 999 + 1}.{n % 10**8:08}" for n in ids.tolist()]
            quantity = [f"0.{n % 997 + 1:05}" for n in ids.tolist()]
            batch = proto_batch(
                {
                    "trade_id": [str(n) for n in ids],
                    "source_sequence": ids,
                    "timestamp_us": FIRST_TRADE_US + ids,
                    "ingest_timestamp_us": FIRST_TRADE_US + ids + 900,
                    "price": price,
                    "quantity": quantity,
                },
                {
                    "exchange": "BINANCE",
                    "asset_class": AssetClass.CRYPTO,
                    "symbol": symbol,
                    "currency": "USDT",
                    "side": Side.BUY,
                    "origin": Origin.STREAM,
                },
            )
            values = encode_trades(batch, self.schema_id)
            await send_values(producer, self.topic, partition, [symbol.encode()] * rows, values)
            self.expected.append(expected_rows(symbol, partition, ids, price, quantity))
            self.ends[partition] = first + rows

    async def produce_raw(
        self, producer: AIOKafkaProducer, values: Sequence[bytes | None], partition: int = 3
    ) -> list[int]:
        """Send values that are no trades; return their offsets."""
        sent = [
            await producer.send_and_wait(self.topic, value, key=b"?", partition=partition)
            for value in values
        ]
        self.ends[partition] = sent[-1].offset + 1
        return [record.offset for record in sent]

    async def all_committed(self, timeout_s: float = 30) -> None:
        """Wait until the table has as many rows as were produced."""
        wanted = sum(rows.num_rows for rows in self.expected)
        await eventually(lambda: rows_in(self.lake) >= wanted, timeout_s, what="all rows committed")

    def seam(self) -> Seam:
        """Return where the table stands."""
        return seam_of(self.lake.load_table(TRADES).metadata)

    def prove_complete(self, *, derived: bool = True) -> None:
        """Compare every row: each record is in the table exactly once, all fields equal.

        What is derived may be null where a level skipped it.
        """
        table = self.lake.load_table(TRADES).scan(selected_fields=tuple(PROOF_COLUMNS)).to_arrow()
        order = [("kafka_partition", "ascending"), ("kafka_offset", "ascending")]
        found = table.select(PROOF_COLUMNS).sort_by(order)
        wanted = pa.concat_tables(self.expected).sort_by(order)
        assert found.num_rows == wanted.num_rows
        for name in PROOF_COLUMNS if derived else PROOF_COLUMNS[:-1]:
            assert found[name].to_pylist() == wanted[name].to_pylist(), name


def expected_rows(
    symbol: str, partition: int, ids: np.ndarray, price: list[str], quantity: list[str]
) -> pa.Table:
    """Say what the table must hold, from what was sent and by none of the writer's code."""
    rows = len(ids)
    numbers = pa.decimal128(28, 12)
    prices, quantities = [Decimal(p) for p in price], [Decimal(q) for q in quantity]
    notional = [exact_product(p, q) for p, q in zip(prices, quantities, strict=True)]
    return pa.table(
        {
            "kafka_partition": pa.array([partition] * rows, pa.int32()),
            "kafka_offset": pa.array(ids, pa.int64()),
            "symbol": [symbol] * rows,
            "trade_id": [str(n) for n in ids],
            "source_sequence": pa.array(ids, pa.int64()),
            "timestamp": pa.array(FIRST_TRADE_US + ids).cast(pa.timestamp("us", "UTC")),
            "price": pa.array(prices, numbers),
            "quantity": pa.array(quantities, numbers),
            "notional": pa.array(notional, pa.decimal128(38, 12)),
        }
    )


def exact_product(price: Decimal, quantity: Decimal) -> Decimal:
    return (price * quantity).quantize(Decimal("1e-12"))


def rows_in(lake: Lake) -> int:
    snapshot = lake.load_table(TRADES).metadata.current_snapshot()
    return int(snapshot.summary["total-records"] or 0) if snapshot and snapshot.summary else 0


async def status(process: Process) -> writer_pb2.GetStatusResponse:
    """Ask a writer how it is."""
    door = await process.door()
    assert door.grpc is not None
    async with client.channel(door.grpc) as channel:
        stub = writer_pb2_grpc.WriterServiceStub(channel)
        answer: writer_pb2.GetStatusResponse = await client.call(
            stub.GetStatus, writer_pb2.GetStatusRequest()
        )
        return answer


async def counted(process: Process, **wanted: object) -> writer_pb2.GetStatusResponse:
    """Wait until a writer shows these numbers; the table has what they count a little before."""

    async def shown() -> writer_pb2.GetStatusResponse | None:
        found = await status(process)
        return found if all(getattr(found, name) == n for name, n in wanted.items()) else None

    return await eventually(shown, what=f"{process.name} shows {wanted}")


async def assigned(process: Process, least: int, most: int, *, placed: bool = False) -> None:
    """Wait until a writer has so many partitions; `placed`: and reads each of them."""

    async def shared() -> bool:
        partitions = (await status(process)).partitions
        ready = not (placed and any(p.paused for p in partitions))
        return least <= len(partitions) <= most and ready

    await eventually(shared, 20, what=f"{process.name} has {least} to {most} partitions")


async def has_partitions(process: Process, least: int, most: int) -> None:
    """Wait until a writer reads so many partitions."""
    await assigned(process, least, most, placed=True)


async def at_the_ends(writing: Writing, process: Process) -> bool:
    """Say whether a writer shows all that was produced as committed, and by itself."""
    return await committed_offsets(process) == writing.ends


async def committed_offsets(process: Process) -> dict[int, int]:
    """Return where a writer's own partitions stand in the table, those that hold anything."""
    partitions = (await status(process)).partitions
    return {p.partition: p.committed_offset for p in partitions if p.committed_offset}


async def flush(process: Process) -> writer_pb2.FlushResponse:
    """Have a writer commit what it has fetched."""
    door = await process.door()
    assert door.grpc is not None
    async with client.channel(door.grpc) as channel:
        stub = writer_pb2_grpc.WriterServiceStub(channel)
        answer: writer_pb2.FlushResponse = await client.call(
            stub.Flush, writer_pb2.FlushRequest(), timeout_s=60
        )
        return answer


def session_timeout_ms(request: pytest.FixtureRequest) -> int:
    """Say how long a writer may stand still and keep its partitions; a test kills few of them."""
    return 1_500 if "faults" in request.path.parts else 10_000


@pytest.fixture
def writing(request: pytest.FixtureRequest, kafka: str, topic: str, tmp_path: Path) -> Writing:
    """Give a topic, an empty table and a schema of a test's own."""
    schema_id = register_trades(SchemaRegistry(tmp_path / "schemas.json"), topic)
    made = Writing(kafka, topic, tmp_path, schema_id, session_timeout_ms(request))
    ensure_trades(made.lake)
    return made
