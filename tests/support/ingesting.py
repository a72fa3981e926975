"""An ingestor between a simulated exchange and a real Kafka, and what it left there."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import ConsumerRecord, TopicPartition
from k2.ingestor.v1 import ingestor_pb2, ingestor_pb2_grpc

from libs.kafka.admin import begin_offsets, end_offsets
from libs.kafka.client import start_consumer, stop_client
from libs.market.trade import Trade
from libs.rpc import client
from libs.runtime.serving import RunningService, running
from libs.wire.trades import decode_trade
from services.ingestor.app import build
from services.ingestor.config import IngestorConfig
from tests.support.polling import eventually
from tests.support.processes import ROOMY, Process
from tools.simulator import truth
from tools.simulator.session import Session

Identity = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Ingesting:
    """A running ingestor and its topic."""

    bootstrap: str
    topic: str
    service: RunningService

    async def feeds(self, **request: object) -> ingestor_pb2.ListFeedsResponse:
        async with client.channel(self.service.grpc_address) as channel:
            stub = ingestor_pb2_grpc.IngestorServiceStub(channel)
            asked = ingestor_pb2.ListFeedsRequest(**request)  # type: ignore[arg-type]
            return await client.call(stub.ListFeeds, asked)

    async def arrived(self, records: int, *, dead_letters: int = 0) -> None:
        """Wait until Kafka has so many."""

        async def all_there() -> bool:
            return (
                await count(self.bootstrap, self.topic) >= records
                and await count(self.bootstrap, f"{self.topic}.dlq") >= dead_letters
            )

        await eventually(all_there, 60, what=f"{records} records of {self.topic}")


def variables(
    bootstrap: str, topic: str, exchange: str, symbols: Iterable[str], folder: Path
) -> dict[str, str]:
    """Name what an ingestor process reads."""
    return {
        "K2_KAFKA_BOOTSTRAP": bootstrap,
        "K2_MEMORY_LIMIT_BYTES": ROOMY,
        "K2_INGESTOR_TOPIC": topic,
        "K2_INGESTOR_EXCHANGE_URL": f"ws://{exchange}",
        "K2_INGESTOR_REST_URL": f"http://{exchange}",
        "K2_INGESTOR_SYMBOLS": ",".join(symbols),
        "K2_INGESTOR_GRPC_ADDRESS": "127.0.0.1:0",
        "K2_INGESTOR_METRICS_ADDRESS": "127.0.0.1:0",
        "K2_SCHEMA_REGISTRY": str(folder / "data" / "schemas.json"),
        "K2_INGESTOR_SPOOL_DIR": str(folder / "data" / "spool"),
    }


@asynccontextmanager
async def ingesting(
    bootstrap: str,
    topic: str,
    exchange: str,
    symbols: Iterable[str],
    folder: Path,
    **more: object,
) -> AsyncIterator[Ingesting]:
    """Run an ingestor in this process; `more` are fields of its configuration."""
    given = variables(bootstrap, topic, exchange, symbols, folder)
    config = IngestorConfig.model_validate(given | more)
    async with running(await build(config)) as service:
        yield Ingesting(bootstrap, topic, service)


async def feeds_of(process: Process) -> ingestor_pb2.ListFeedsResponse:
    """Ask an ingestor in a process of its own."""
    door = await process.serving()
    async with client.channel(door.grpc or "") as channel:
        stub = ingestor_pb2_grpc.IngestorServiceStub(channel)
        return await client.call(stub.ListFeeds, ingestor_pb2.ListFeedsRequest())


async def nothing_missing(process: Process) -> None:
    """Wait until no gap is open and nothing is in the spool."""

    async def whole() -> bool:
        feeds = await feeds_of(process)
        return not feeds.healing.open_gaps and not feeds.spool.spooled_records

    await eventually(whole, 60, what="no gap and an empty spool")


async def count(bootstrap: str, topic: str) -> int:
    return sum((await end_offsets(bootstrap, topic)).values())


async def records_of(
    bootstrap: str, topic: str, since: Mapping[int, int] | None = None
) -> list[ConsumerRecord]:
    """Read a topic from its beginning, or `since`, to its end, partition by partition."""
    ends = await end_offsets(bootstrap, topic)
    begins = await begin_offsets(bootstrap, topic)
    begins = {p: max(begin, (since or {}).get(p, 0)) for p, begin in begins.items()}
    filled = sorted(p for p, end in ends.items() if end > begins[p])
    found: list[ConsumerRecord] = []
    if not filled:
        return found
    consumer = await start_consumer(bootstrap, "test-reader")
    try:
        for partition in filled:
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            consumer.seek(place, begins[partition])
            while await consumer.position(place) < ends[partition]:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    found += records
    finally:
        await stop_client(consumer)
    return found


async def trades_of(bootstrap: str, topic: str) -> list[Trade]:
    """Read every trade, in order within each partition."""
    return [decode_trade(record.value) for record in await records_of(bootstrap, topic)]


def identities(trades: Iterable[Trade]) -> Counter[Identity]:
    return Counter((trade.symbol, trade.source_sequence or 0) for trade in trades)


def sent(session: Session) -> Counter[Identity]:
    """Count what the session holds, by code that shares nothing with the ingestor."""
    columns = truth.columns(session)
    return Counter(zip(columns.symbol, columns.trade_id, strict=True))


def contents(trades: Iterable[Trade]) -> list[tuple[object, ...]]:
    """Order trades by identity, with every field the exchange told."""
    return sorted(
        (t.symbol, t.source_sequence, str(t.price), str(t.quantity), t.timestamp_us, str(t.side))
        for t in trades
    )


def sent_contents(session: Session) -> list[tuple[object, ...]]:
    columns = truth.columns(session)
    sides = ["SELL" if maker else "BUY" for maker in columns.is_buyer_maker]
    return sorted(
        zip(
            columns.symbol,
            columns.trade_id,
            columns.price,
            columns.quantity,
            columns.time_us,
            sides,
            strict=True,
        )
    )
