"""The query service on logs that are not plain: markers at the end, made anew, cut by retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

import pyarrow as pa
import pytest
from aiokafka import AIOKafkaProducer
from k2.query.v1 import query_pb2

from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_admin, start_producer, stop_client
from libs.kafka.send import send_values
from libs.lake.table.tables import bucket_of
from libs.market.errors import InvalidError, UnavailableError
from libs.rpc import client
from libs.runtime.serving import Service, running
from services.query.app import build
from tests.support.damage import forget_below
from tests.support.polling import eventually
from tests.support.query import FIRST_US, trade_rows
from tests.support.serving import QueryWorld, Stub, stub_on

BTC = "BTCUSDT"
PARTITION = bucket_of(BTC)


def listing() -> query_pb2.ListTradesRequest:
    return query_pb2.ListTradesRequest(filter=query_pb2.TradeFilter(symbol=BTC), page_size=1_000)


async def listed(stub: Stub) -> tuple[list[int], query_pb2.Provenance]:
    page = await client.call(stub.ListTrades, listing())
    return [trade.source_sequence for trade in page.trades][::-1], page.provenance


async def status(stub: Stub) -> query_pb2.GetStatusResponse:
    return await client.call(stub.GetStatus, query_pb2.GetStatusRequest())


def reasons(provenance: query_pb2.Provenance) -> set[str]:
    return {lack.reason for lack in provenance.lacks}


@asynccontextmanager
async def started(world: QueryWorld) -> AsyncIterator[tuple[Service, Stub]]:
    """Run the service, ready or not."""
    service = await build(world.config())
    async with running(service) as run, client.channel(run.grpc_address) as channel:
        stub = stub_on(channel)
        await eventually(lambda: answering(stub), 20, what="a first state")
        yield service, stub


async def answering(stub: Stub) -> bool:
    try:
        await status(stub)
    except UnavailableError:
        return False
    return True


@asynccontextmanager
async def transactional(world: QueryWorld) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=world.bootstrap, transactional_id=f"tx-{world.topic}"
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "abort"])
async def test_a_partition_may_end_in_a_marker(query_world: QueryWorld, *, commits: bool) -> None:
    """The service serves although no record ever stands at the end of the log."""
    value = query_world.values(BTC, query_world.rows(BTC, 0, 1))[0]
    async with transactional(query_world) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(query_world.topic, value, key=b"BTC", partition=PARTITION)
        await (producer.commit_transaction() if commits else producer.abort_transaction())
        async with query_world.serving() as stub:
            found, provenance = await listed(stub)
            assert found == ([0] if commits else [])
            assert provenance.complete
            assert high_of(query_world, provenance) == 2
            await producer.begin_transaction()
            await producer.send_and_wait(query_world.topic, value, key=b"BTC", partition=PARTITION)
            await producer.abort_transaction()

            async def at_end() -> bool:
                return high_of(query_world, (await status(stub)).provenance) == 4

            await eventually(at_end, 10, what="the tail passes a marker while it serves")


def high_of(world: QueryWorld, provenance: query_pb2.Provenance) -> int:
    return {high.topic: dict(high.offsets) for high in provenance.high}[world.topic][PARTITION]


async def test_a_log_with_other_trades_is_refused(query_world: QueryWorld) -> None:
    """What stands below the table's offset is another trade: answers stop at what is committed."""
    others = trade_rows(
        BTC, range(20), times_us=[FIRST_US + 7 * at for at in range(20)], topic=query_world.topic
    )
    query_world.history.commit(others, {PARTITION: (0, 20)})
    await query_world.send(BTC, 50)
    async with started(query_world) as (service, stub):

        async def refused() -> bool:
            return "another log under the same name" in (await status(stub)).log_problem

        await eventually(refused, 10, what="the log is refused")
        await eventually(partial(tells_of_another_log, stub), what="answers say why")
        found, provenance = await listed(stub)
        assert found == list(range(20))
        assert not provenance.complete
        assert not service.ready()


@pytest.mark.parametrize("rows", [10, 300], ids=["shorter", "longer"])
async def test_a_log_made_anew_is_refused_while_the_service_runs(
    query_world: QueryWorld, rows: int
) -> None:
    """The last state known to be good goes on, and no trade of the other log shows."""
    await query_world.send(BTC, 100)
    await query_world.commit(BTC, 40)
    async with started(query_world) as (service, stub):
        await eventually(service.ready, 20, what="ready")
        await make_anew(query_world)
        others = query_world.rows(BTC, 1_000, 1_000 + rows)
        await send(query_world, others)

        async def refused() -> bool:
            return bool((await status(stub)).log_problem)

        await eventually(refused, 30, what="the log made anew is refused")
        await eventually(partial(tells_of_another_log, stub), what="answers say why")
        found, _ = await listed(stub)
        assert found == list(range(len(found)))
        assert len(found) >= 40, "what is committed stays"
        assert not service.ready()


async def tells_of_another_log(stub: Stub) -> bool:
    """Whether answers name it: the status may, before the state that answers does."""
    _, provenance = await listed(stub)
    return reasons(provenance) == {"ANOTHER_LOG"}


async def make_anew(world: QueryWorld) -> None:
    admin = await start_admin(world.bootstrap, "test")
    try:
        await admin.delete_topics([world.topic])

        async def gone() -> bool:
            return world.topic not in await admin.list_topics()

        await eventually(gone, 20, what="the topic is deleted")
    finally:
        await stop_client(admin)
    await ensure_topics(world.bootstrap, [world.topic])


async def send(world: QueryWorld, rows: pa.RecordBatch) -> None:
    producer = await start_producer(world.bootstrap, "test-anew")
    try:
        keys, values = [BTC.encode()] * rows.num_rows, world.values(BTC, rows)
        await send_values(producer, world.topic, PARTITION, keys, values)
    finally:
        await stop_client(producer)


async def test_a_follower_is_told_what_is_lacking(query_world: QueryWorld) -> None:
    """Provenance comes first, and again when retention took rows nobody has, and when it heals."""
    await query_world.send(BTC, 100)
    await query_world.commit(BTC, 20)
    await forget_below(query_world.bootstrap, query_world.topic, PARTITION, 50)
    async with query_world.serving() as stub:
        request = query_pb2.FollowTradesRequest(filter=query_pb2.TradeFilter(symbol=BTC), last=3)
        responses = client.stream(stub.FollowTrades, request)
        async with aclosing(responses), asyncio.timeout(60):
            first = await anext(responses)
            assert [trade.source_sequence for trade in first.trades] == [97, 98, 99]
            assert [(lack.start, lack.end) for lack in first.provenance.lacks] == [(20, 50)]
            await query_world.commit(BTC, 40)
            second = await anext(responses)
            assert (len(second.trades), second.provenance.complete) == (0, True)
            await query_world.send(BTC, 1)
            third = await anext(responses)
            assert [trade.source_sequence for trade in third.trades] == [100]
            assert not third.HasField("provenance")


async def test_a_snapshot_that_is_not_named_is_a_bad_request(query_world: QueryWorld) -> None:
    """GetSnapshot without an id says which field is missing."""
    async with query_world.serving() as stub:
        with pytest.raises(InvalidError, match="snapshot_id is required") as caught:
            await client.call(stub.GetSnapshot, query_pb2.GetSnapshotRequest())
    assert caught.value.field == "snapshot_id"
