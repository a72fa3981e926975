"""A field is added while a writer and a query run: real log, catalog and processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaProducer
from k2.query.v1 import query_pb2

from libs.kafka.dead_letters import read
from libs.kafka.send import send_values
from libs.kafka.topics import dead_letter_topic
from libs.lake.commits.seam import seam_of
from libs.lake.table.tables import TRADES
from libs.market.trade import Trade
from libs.rpc import client
from libs.wire.registry import SchemaRegistry, subject_of
from tests.support.ingesting import records_of
from tests.support.polling import eventually
from tests.support.processes import Process, arm, disarm, started
from tests.support.schemas import FEE_TICKS, LIQUIDITY, Encoder, NewField, Type, trade_with
from tests.support.serving import Stub, read_all, stub_on
from tests.support.wire import a_trade
from tests.support.writer import (
    FIRST_TRADE_US,
    SOON_FREE,
    SYMBOLS,
    Writing,
    expected_rows,
    has_partitions,
)

EVOLVED = trade_with(LIQUIDITY, FEE_TICKS)
Place = tuple[int, int]


@dataclass
class Evolving:
    """An old and a new producer of one topic, and what the new one has sent beyond."""

    writing: Writing
    added: dict[Place, tuple[str | None, int | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._encoder: Encoder | None = None

    def new_encoder(self) -> Encoder:
        """Register the new schema, as its producer does when it starts."""
        if self._encoder is None:
            registry = SchemaRegistry(self.writing.folder / "schemas.json")
            schema_id = registry.register(subject_of(self.writing.topic), EVOLVED)
            self._encoder = Encoder(EVOLVED, schema_id)
        return self._encoder

    async def produce_new(self, producer: AIOKafkaProducer, rows: int = 200) -> None:
        """Send so many trades of each symbol as the new producer does."""
        encoder = self.new_encoder()
        for symbol, partition in SYMBOLS.items():
            first = self.writing.ends.get(partition, 0)
            ids = np.arange(first, first + rows)
            values = [encoder.value(*self._trade(symbol, partition, n)) for n in ids.tolist()]
            keys = [symbol.encode()] * rows
            await send_values(producer, self.writing.topic, partition, keys, values)
            prices = [f"{n % 999 + 1}.{n % 10**8:08}" for n in ids.tolist()]
            amounts = [f"0.{n % 997 + 1:05}" for n in ids.tolist()]
            self.writing.expected.append(expected_rows(symbol, partition, ids, prices, amounts))
            self.writing.ends[partition] = first + rows

    def _trade(self, symbol: str, partition: int, n: int) -> tuple[Trade, Mapping[str, object]]:
        trade = a_trade(
            symbol=symbol,
            trade_id=str(n),
            source_sequence=n,
            timestamp_us=FIRST_TRADE_US + n,
            ingest_timestamp_us=FIRST_TRADE_US + n + 900,
            price=Decimal(f"{n % 999 + 1}.{n % 10**8:08}"),
            quantity=Decimal(f"0.{n % 997 + 1:05}"),
        )
        liquidity = ("MAKER", "TAKER", None)[n % 3]
        self.added[partition, n] = (liquidity, n * 3)
        beyond: dict[str, object] = {"fee_ticks": n * 3}
        return trade, beyond if liquidity is None else {**beyond, "liquidity": liquidity}

    def prove(self, rows: pa.Table) -> None:
        """Compare the added columns of every row, null where the old producer sent it."""
        self.writing.prove_complete()
        places = zip(
            rows["kafka_partition"].to_pylist(), rows["kafka_offset"].to_pylist(), strict=True
        )
        found = zip(rows["liquidity"].to_pylist(), rows["fee_ticks"].to_pylist(), strict=True)
        answered = dict(zip(places, found, strict=True))
        assert len(answered) == rows.num_rows == sum(self.writing.ends.values())
        for place, values in answered.items():
            assert values == self.added.get(place, (None, None)), place


@pytest.fixture
def evolving(writing: Writing) -> Evolving:
    return Evolving(writing)


@contextmanager
def query_process(writing: Writing) -> Iterator[Process]:
    environment = {
        "K2_KAFKA_BOOTSTRAP": writing.bootstrap,
        "K2_CATALOG_URI": f"sqlite:///{writing.catalog}",
        "K2_WAREHOUSE": str(writing.folder / "warehouse"),
        "K2_SCHEMA_REGISTRY": str(writing.folder / "schemas.json"),
        "K2_QUERY_TOPICS": writing.topic,
        "K2_QUERY_SPILL_DIR": str(writing.folder / "spill"),
        "K2_QUERY_GRPC_ADDRESS": "127.0.0.1:0",
        "K2_QUERY_METRICS_ADDRESS": "127.0.0.1:0",
    }
    run_dir = writing.folder / "run"
    with started("services.query", name="query-1", run_dir=run_dir, env=environment) as process:
        yield process


@asynccontextmanager
async def asking(process: Process) -> AsyncIterator[Stub]:
    door = await process.serving()
    async with client.channel(door.grpc or "") as channel:
        yield stub_on(channel)


async def answers_rows(stub: Stub, rows: int) -> None:
    async def seen() -> bool:
        status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
        return status.tail_rows + status.committed_rows == rows

    await eventually(seen, 30, what=f"the query answers {rows} rows")


async def all_in_iceberg(stub: Stub, rows: int) -> None:
    async def seen() -> bool:
        status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
        return status.committed_rows == rows and status.tail_rows == 0

    await eventually(seen, 30, what=f"{rows} rows in Iceberg and an empty tail")


def total(evolving: Evolving) -> int:
    return sum(evolving.writing.ends.values())


def pages_of(symbol: str) -> query_pb2.ListTradesRequest:
    wanted = query_pb2.TradeFilter(symbol=symbol)
    oldest = query_pb2.ORDER_OLDEST_FIRST
    return query_pb2.ListTradesRequest(filter=wanted, order=oldest, page_size=150)


async def test_a_new_field_comes_through_without_a_restart(
    evolving: Evolving, producer: AIOKafkaProducer
) -> None:
    """Old and new producer side by side; tail, table, Arrow, gRPC and other engines agree."""
    writing, everything = evolving.writing, query_pb2.ReadTradesRequest()
    with writing.writer() as writer, query_process(writing) as query:
        async with asking(query) as stub:
            await writing.produce(producer, 300)
            await answers_rows(stub, total(evolving))
            request = pages_of("BTCUSDT")
            page = await client.call(stub.ListTrades, request)
            listed = [trade.source_sequence for trade in page.trades]
            assert "liquidity" not in (await read_all(stub, everything)).schema.names

            await writing.all_committed()
            writer.pause()
            await evolving.produce_new(producer)
            await answers_rows(stub, total(evolving))
            before = await read_all(stub, everything)
            followed = await last_followed(stub)
            assert "liquidity" not in names_in_table(writing)
            writer.resume()
            for _ in range(3):
                await writing.produce(producer, 100)
                await evolving.produce_new(producer, 100)
            await writing.all_committed()
            await all_in_iceberg(stub, total(evolving))

            request.page_token = page.next_page_token
            while request.page_token:
                page = await client.call(stub.ListTrades, request)
                listed += [trade.source_sequence for trade in page.trades]
                request.page_token = page.next_page_token
            found = await read_all(stub, everything)
            some = await client.call(stub.ListTrades, last_three())
            chosen = await read_all(
                stub, query_pb2.ReadTradesRequest(columns=["fee_ticks", "symbol"])
            )
    assert (before.num_rows, before["fee_ticks"].null_count) == (1_000, 600)
    assert listed == list(range(300))
    evolving.prove(found)
    assert found.schema.names[-2:] == ["liquidity", "fee_ticks"]
    assert found.schema.field("fee_ticks").type == pa.int64()
    assert set(chosen.schema.names) == {"fee_ticks", "symbol"}
    assert chosen["fee_ticks"].null_count == 1_200
    for trade in (*followed, *some.trades):
        wanted = evolving.added[trade.kafka_partition, trade.kafka_offset]
        assert dict(trade.extra) == shown(*wanted)
    evolving.prove(writing.lake.load_table(TRADES).scan().to_arrow())
    assert len(writing.lake.load_table(TRADES).metadata.schemas) == 2


async def last_followed(stub: Stub) -> list[query_pb2.Trade]:
    """Return the three newest trades as a follower gets them."""
    wanted = query_pb2.TradeFilter(symbol="ETHUSDT")
    request = query_pb2.FollowTradesRequest(filter=wanted, last=3)
    async with aclosing(client.stream(stub.FollowTrades, request, timeout_s=120)) as answers:
        async for answer in answers:
            if answer.trades:
                return list(answer.trades)
    raise AssertionError("the stream ended")


def last_three() -> query_pb2.ListTradesRequest:
    wanted = query_pb2.TradeFilter(symbol="ETHUSDT")
    return query_pb2.ListTradesRequest(filter=wanted, page_size=3)


def shown(liquidity: str | None, fee_ticks: int | None) -> dict[str, str]:
    texts = {"liquidity": liquidity, "fee_ticks": str(fee_ticks)}
    return {name: text for name, text in texts.items() if text is not None}


def names_in_table(writing: Writing) -> list[str]:
    return [field.name for field in writing.lake.load_table(TRADES).schema().fields]


async def test_two_writers_meet_the_field_at_once(
    evolving: Evolving, producer: AIOKafkaProducer
) -> None:
    """One of them adds the column, both write it."""
    writing = evolving.writing
    with writing.writer("writer-1") as one, writing.writer("writer-2") as other:
        for process in (one, other):
            await has_partitions(process, 1, 15)
        await writing.produce(producer, 100)
        for _ in range(3):
            await evolving.produce_new(producer, 100)
            await writing.produce(producer, 50)
        await writing.all_committed()
    table = writing.lake.load_table(TRADES)
    evolving.prove(table.scan().to_arrow())
    assert len(table.metadata.schemas) == 2


async def test_a_writer_killed_after_the_schema_commit(
    evolving: Evolving, producer: AIOKafkaProducer
) -> None:
    """The column is there, the offsets are as before; the next one finds it and goes on."""
    writing, point = evolving.writing, "writer.after_schema"
    await writing.produce(producer, 200)
    with writing.writer(env=SOON_FREE) as writer:
        await writing.all_committed()
        before = writing.lake.load_table(TRADES).metadata
        arm(writing.fault_dir, point)
        await evolving.produce_new(producer)
        writer.reached(point, writing.fault_dir)
        writer.kill()
        after = writing.lake.load_table(TRADES).metadata
        assert "liquidity" in names_in_table(writing)
        assert after.snapshots == before.snapshots
        assert seam_of(after) == seam_of(before)
        disarm(writing.fault_dir, point)
        await writing.produce(producer, 100)
        writer.restart()
        await writing.all_committed()
    evolving.prove(writing.lake.load_table(TRADES).scan().to_arrow())


async def test_an_incompatible_schema_goes_to_the_dead_letters(
    evolving: Evolving, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that checks nothing took it: its records wait there, the others are stored."""
    writing = evolving.writing
    fee = trade_with(NewField("fee", 16, Type.TYPE_DOUBLE))
    with writing.writer():
        await evolving.produce_new(producer)
        with monkeypatch.context() as unchecked:
            unchecked.setattr(SchemaRegistry, "_check", lambda *_: None)
            registry = SchemaRegistry(writing.folder / "schemas.json")
            bad = Encoder(fee, registry.register("unchecked", fee))
        values: list[bytes | None] = [bad.value(a_trade(), {"fee": 0.1})] * 2
        offsets = await writing.produce_raw(producer, values)
        await writing.produce(producer, 100)
        await writing.all_committed()
    letters = [
        read(record)
        for record in await records_of(writing.bootstrap, dead_letter_topic(writing.topic))
    ]
    assert {letter.position for letter in letters} == {(writing.topic, 3, at) for at in offsets}
    assert {letter.reason for letter in letters} == {"INCOMPATIBLE_SCHEMA"}
    assert "Trade.fee = 16 is double, and its column liquidity is string" in letters[0].detail
    assert letters[0].raw == values[0]
    writing.prove_complete()
