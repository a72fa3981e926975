"""The query service over a real log and a real table, asked over gRPC."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2
from pyiceberg.table.update import RemoveSnapshotsUpdate

from libs.lake.table.tables import bucket_of
from libs.market.errors import InvalidError, NotFoundError, UnavailableError
from libs.rpc import client
from libs.runtime.service import running
from libs.wire.schema import TRADE_SCHEMA
from services.query.app import build
from services.query.asked import RowKey
from services.query.pages import PageToken
from services.query.requests import page_asked
from tests.support.polling import eventually
from tests.support.query import FIRST_US
from tests.support.serving import QueryWorld, Stub, list_all, read_all, stub_on

BTC, ETH = "BTCUSDT", "ETHUSDT"


def sequences(trades: list[query_pb2.Trade]) -> list[int]:
    return [trade.source_sequence for trade in trades]


def listing(symbol: str = BTC, **fields: object) -> query_pb2.ListTradesRequest:
    wanted = query_pb2.TradeFilter(symbol=symbol)
    return query_pb2.ListTradesRequest(filter=wanted, **fields)  # type: ignore[arg-type]


async def sees(stub: Stub, snapshot_id: int) -> None:
    async def seen() -> bool:
        status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
        return status.provenance.snapshot_id == snapshot_id

    await eventually(seen, 10, what=f"the service sees snapshot {snapshot_id}")


async def sees_rows(stub: Stub, rows: int) -> None:
    async def seen() -> bool:
        status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
        return status.tail_rows + status.committed_rows == rows

    await eventually(seen, 10, what=f"the service sees {rows} rows")


async def test_answers_run_over_the_seam(query_world: QueryWorld) -> None:
    """Committed and uncommitted rows are one table, while commits move the seam."""
    await query_world.send(BTC, 3_000)
    await query_world.commit(BTC, 1_000)
    async with query_world.serving() as stub:
        for _ in range(3):
            trades = await list_all(stub, listing(page_size=700))
            assert sequences(trades) == list(range(2_999, -1, -1))
            await sees(stub, await query_world.commit(BTC, 300))
        page = await client.call(stub.ListTrades, listing(page_size=3))
        assert page.provenance.complete
        seam = {seam.topic: dict(seam.offsets) for seam in page.provenance.seam}
        assert seam[query_world.topic][bucket_of(BTC)] == 1_900


async def test_rows_come_back_field_by_field(query_world: QueryWorld) -> None:
    """What a caller reads is what was sent, from the log and from Iceberg alike."""
    await query_world.send(BTC, 2)
    await query_world.commit(BTC, 1)
    async with query_world.serving() as stub:
        trades = await list_all(stub, listing(order=query_pb2.ORDER_OLDEST_FIRST))
    first, second = trades
    assert (first.price, first.quantity, first.notional) == ("60000", "0.00001", "0.6")
    assert (second.price, second.quantity, second.notional) == ("60000.01", "0.00002", "1.2000002")
    for at, trade in enumerate(trades):
        assert trade.message_id == f"BINANCE:CRYPTO:BTCUSDT:0:{at}"
        assert dict(trade.vendor_data) == {"E": "1723107600001"}
        assert trade.timestamp.ToMicroseconds() == FIRST_US + at * 1_000_000
        assert trade.kafka_topic == query_world.topic
        assert (trade.side, trade.currency, trade.origin) == (
            ("BUY" if at % 2 else "SELL"),
            "USDT",
            "STREAM",
        )


async def test_pages_go_on_over_commit_expiry_and_restart(query_world: QueryWorld) -> None:
    """A commit, an expiry of snapshots and a restart between two pages change nothing."""
    await query_world.send(BTC, 1_000)
    await query_world.commit(BTC, 400)
    request = listing(page_size=100)
    found: list[int] = []
    async with query_world.serving() as stub:
        page = await client.call(stub.ListTrades, request)
        found += sequences(list(page.trades))
        request.page_token = page.next_page_token
        await sees(stub, await query_world.commit(BTC, 500))
        page = await client.call(stub.ListTrades, request)
        found += sequences(list(page.trades))
    request.page_token = page.next_page_token
    await query_world.commit(BTC, 50)
    expire_all_but_head(query_world)
    await query_world.send(BTC, 100)
    async with query_world.serving() as stub:
        found += sequences(await list_all(stub, request))
    assert found == list(range(999, -1, -1))


def expire_all_but_head(world: QueryWorld) -> None:
    table = world.history.reload()
    head = table.metadata.current_snapshot_id
    old = [s.snapshot_id for s in table.metadata.snapshots if s.snapshot_id != head]
    expire(world, *old)


def expire(world: QueryWorld, *snapshot_ids: int) -> None:
    update = RemoveSnapshotsUpdate.model_validate({"snapshot-ids": list(snapshot_ids)})
    world.history.lake.commit_table(world.history.reload(), (), (update,))


async def test_arrow_stream_has_every_row(query_world: QueryWorld) -> None:
    """ReadTrades gives the table's own columns, in order, all of them or the asked ones."""
    await query_world.send(BTC, 2_000)
    await query_world.send(ETH, 500)
    await query_world.commit(BTC, 1_500)
    async with query_world.serving() as stub:
        oldest = query_pb2.ORDER_OLDEST_FIRST
        found = await read_all(stub, query_pb2.ReadTradesRequest(order=oldest))
        assert found.num_rows == 2_500
        columns = found.select(TRADE_SCHEMA.names)
        for symbol, rows in ((BTC, 2_000), (ETH, 500)):
            own = columns.filter(pa.compute.equal(columns["symbol"], symbol))
            wanted = pa.Table.from_batches([query_world.rows(symbol, 0, rows)])
            assert own.cast(TRADE_SCHEMA).equals(wanted.cast(TRADE_SCHEMA))
        request = query_pb2.ReadTradesRequest(columns=["price", "symbol"], limit=3)
        few = await read_all(stub, request)
        assert (few.column_names, few.num_rows) == (["symbol", "price"], 3)
        request.filter.symbol = "NONE"
        assert (await read_all(stub, request)).num_rows == 0


async def test_bars_are_the_same_from_files_and_tail(query_world: QueryWorld) -> None:
    """A bar is one number for one market, wherever the seam runs through it."""
    await query_world.send(BTC, 600)
    request = query_pb2.GetBarsRequest(
        filter=query_pb2.TradeFilter(symbol=BTC), interval=query_pb2.INTERVAL_1M
    )
    async with query_world.serving() as stub:
        from_tail = await client.call(stub.GetBars, request)
        await sees(stub, await query_world.commit(BTC, 330))
        mixed = await client.call(stub.GetBars, request)
        await sees(stub, await query_world.commit(BTC, 270))
        from_files = await client.call(stub.GetBars, request)
    assert list(from_tail.bars) == list(mixed.bars) == list(from_files.bars)
    assert [bar.trades for bar in mixed.bars] == [60] * 10
    first = mixed.bars[0]
    assert (first.open, first.high, first.low, first.close) == (
        "60000",
        "60000.59",
        "60000",
        "60000.59",
    )
    assert first.time.ToMicroseconds() == FIRST_US
    assert (first.volume, first.notional, first.vwap) == first_minute()


def first_minute() -> tuple[str, str, str]:
    """Work out volume, notional and VWAP of the first sixty rows in plain decimals."""
    rows = [
        (Decimal("60000") + at * Decimal("0.01"), (at + 1) * Decimal("0.00001")) for at in range(60)
    ]
    volume = sum((quantity for _, quantity in rows), Decimal(0))
    money = sum((price * quantity for price, quantity in rows), Decimal(0))
    texts = (volume, money, (money / volume).quantize(Decimal("1e-12")))
    return tuple(f"{text:f}".rstrip("0") for text in texts)  # type: ignore[return-value]


async def test_new_trades_are_followed_without_a_gap(query_world: QueryWorld) -> None:
    """A follower gets the last rows, then each new one once, over commits."""
    await query_world.send(BTC, 20)
    found: list[int] = []
    async with query_world.serving() as stub:
        request = query_pb2.FollowTradesRequest(filter=query_pb2.TradeFilter(symbol=BTC), last=5)
        responses = client.stream(stub.FollowTrades, request)
        async with aclosing(responses), asyncio.timeout(20):
            for _ in range(3):
                async for response in responses:
                    found += sequences(list(response.trades))
                    break
                await query_world.send(BTC, 10)
                await query_world.commit(BTC, 10)
            async for response in responses:
                found += sequences(list(response.trades))
                if found[-1] == 49:
                    break
    assert found == list(range(15, 50))


def a_minute_after(snapshot: query_pb2.Snapshot) -> Timestamp:
    """Name a time of which the snapshot's rows, and no later ones, had been received."""
    return Timestamp(seconds=snapshot.commit_time.seconds + 60)


async def test_time_travel(query_world: QueryWorld) -> None:
    """A snapshot and a time give what was committed then, and an expired one is named."""
    await query_world.send(BTC, 100)
    first = await query_world.commit(BTC, 40)
    query_world.clock.advance(60)
    second = await query_world.commit(BTC, 30)
    async with query_world.serving() as stub:
        at = query_pb2.TimeTravel(snapshot_id=first)
        assert sequences(await list_all(stub, listing(at=at, page_size=7))) == list(
            range(39, -1, -1)
        )
        snapshots = (
            await client.call(stub.ListSnapshots, query_pb2.ListSnapshotsRequest())
        ).snapshots
        assert [found.snapshot_id for found in snapshots] == [second, first]
        assert [found.total_rows for found in snapshots] == [70, 40]
        as_of = query_pb2.TimeTravel(as_of=a_minute_after(snapshots[1]))
        assert len(await list_all(stub, listing(at=as_of))) == 40
        early = query_pb2.TimeTravel(as_of=Timestamp(seconds=1))
        with pytest.raises(NotFoundError, match="the earliest time to ask for is"):
            await list_all(stub, listing(at=early))
        with pytest.raises(NotFoundError, match="12345"):
            await list_all(stub, listing(at=query_pb2.TimeTravel(snapshot_id=12345)))
        with pytest.raises(NotFoundError, match="777"):
            await client.call(stub.GetSnapshot, query_pb2.GetSnapshotRequest(snapshot_id=777))


async def test_pages_of_a_time_go_on_where_its_snapshot_is_expired(query_world: QueryWorld) -> None:
    """What had been received by then is found in the snapshots after it."""
    await query_world.send(BTC, 100)
    await query_world.commit(BTC, 40)
    meant = await query_world.commit(BTC, 30)
    query_world.clock.advance(60)
    async with query_world.serving() as stub:
        snapshots = (
            await client.call(stub.ListSnapshots, query_pb2.ListSnapshotsRequest())
        ).snapshots
        as_of = query_pb2.TimeTravel(as_of=a_minute_after(snapshots[0]))
        request = listing(at=as_of, page_size=10)
        page = await client.call(stub.ListTrades, request)
        found = sequences(list(page.trades))
        await query_world.commit(BTC, 10)
        expire(query_world, meant)
        await sees(stub, await query_world.commit(BTC, 5))
        request.page_token = page.next_page_token
        page = await client.call(stub.ListTrades, request)
        assert page.provenance.complete
        request.page_token = page.next_page_token
        found += sequences(list(page.trades)) + sequences(await list_all(stub, request))
    assert found == list(range(69, -1, -1))


async def test_symbols_are_counted_over_files_and_tail(query_world: QueryWorld) -> None:
    """ListSymbols counts each trade once, page by page."""
    await query_world.send(BTC, 50)
    await query_world.send(ETH, 20)
    await query_world.commit(BTC, 30)
    async with query_world.serving() as stub:
        request = query_pb2.ListSymbolsRequest(page_size=1)
        first = await client.call(stub.ListSymbols, request)
        request.page_token = first.next_page_token
        second = await client.call(stub.ListSymbols, request)
    found = {s.symbol: s.trades for page in (first, second) for s in page.symbols}
    assert found == {BTC: 50, ETH: 20}
    assert not second.next_page_token
    assert first.symbols[0].last_time.ToMicroseconds() == FIRST_US + 49_000_000


async def test_bad_requests_name_the_field(query_world: QueryWorld) -> None:
    """Each mistake comes back as INVALID_ARGUMENT with the field it is in."""
    await query_world.send(BTC, 50)
    late, early = Timestamp(seconds=100), Timestamp(seconds=50)
    backwards = query_pb2.TradeFilter(symbol=BTC, start_time=late, end_time=early)
    one_second = query_pb2.INTERVAL_1S
    async with query_world.serving() as stub:
        token = (await client.call(stub.ListTrades, listing(page_size=5))).next_page_token
        mistakes: list[tuple[Any, Any, str]] = [
            (stub.ListTrades, listing(columns=["prise"]), "columns"),
            (stub.ListTrades, listing(page_size=-1), "page_size"),
            (stub.ListTrades, listing(page_size=10_001), "page_size"),
            (stub.ListTrades, listing(page_token="garbage"), "page_token"),
            (stub.ListTrades, listing(ETH, page_token=token), "page_token"),
            (stub.ListTrades, listing("x" * 65), "filter.symbol"),
            (stub.ListTrades, listing(order=17), "order"),
            (stub.ListTrades, query_pb2.ListTradesRequest(filter=backwards), "filter.end_time"),
            (stub.ListTrades, listing(at=query_pb2.TimeTravel(snapshot_id=-4)), "at.snapshot_id"),
            (stub.GetBars, query_pb2.GetBarsRequest(interval=one_second), "filter.symbol"),
            (stub.GetBars, query_pb2.GetBarsRequest(filter=listing().filter), "interval"),
            (stub.ListSymbols, query_pb2.ListSymbolsRequest(page_token=token), "page_token"),
        ]
        for method, request, field in mistakes:
            with pytest.raises(InvalidError) as caught:
                await client.call(method, request)
            assert caught.value.field == field, request
        with pytest.raises(InvalidError, match="did you mean price"):
            await client.call(stub.ListTrades, listing(columns=["prise"]))
        assert len(await list_all(stub, listing("'; DROP TABLE x; --"))) == 0


async def test_what_cannot_be_decoded_is_passed_by(query_world: QueryWorld) -> None:
    """Garbage on the log hides no row around it; it is named, for it may have been a trade."""
    await query_world.send(BTC, 10)
    for value in (b"", b"garbage", b"\x00\x00\x00\x00\x63\x00nothing"):
        await query_world.producer.send_and_wait(query_world.topic, value, partition=bucket_of(BTC))
    async with query_world.serving() as stub:
        assert sequences(await list_all(stub, listing())) == list(range(9, -1, -1))
        page = await client.call(stub.ListTrades, listing())
        lacks = {(lack.reason, lack.start, lack.detail) for lack in page.provenance.lacks}
        details = enumerate(("EMPTY", "FRAMING", "UNKNOWN_SCHEMA"), start=10)
        assert lacks == {("DEAD_LETTER", start, detail) for start, detail in details}
        high = {high.topic: dict(high.offsets) for high in page.provenance.high}
        assert high[query_world.topic][bucket_of(BTC)] == 13


async def test_status_tells_freshness_and_seam(query_world: QueryWorld) -> None:
    """GetStatus counts committed and tail rows, and tells how far the log is ahead."""
    await query_world.send(BTC, 30)
    await query_world.commit(BTC, 10)
    async with query_world.serving() as stub:
        await sees_rows(stub, 30)
        status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
        assert (status.committed_rows, status.committed_files, status.tail_rows) == (10, 1, 20)
        assert status.level == "NORMAL"
        assert status.provenance.behind_log == 0
        assert not status.catalog_problem


async def test_health_waits_for_the_log(query_world: QueryWorld) -> None:
    """The service does not serve before the tail has reached the end it saw at start."""
    await query_world.send(BTC, 500)
    service = await build(query_world.config())
    async with running(service) as run, client.channel(run.grpc_address) as channel:
        assert not service.ready()
        await eventually(service.ready, 30, what="ready")
        page = await client.call(stub_on(channel).ListTrades, listing(page_size=1))
        assert sequences(list(page.trades)) == [499]


async def test_what_retention_took_is_named(query_world: QueryWorld) -> None:
    """Rows that neither Iceberg nor the log has are named as missing; the rest is answered."""
    await query_world.send(BTC, 100)
    await query_world.commit(BTC, 20)
    await forget_below(query_world, BTC, 50)
    async with query_world.serving() as stub:
        page = await client.call(stub.ListTrades, listing(page_size=200))
        assert sequences(list(page.trades)) == [*range(99, 49, -1), *range(19, -1, -1)]
        ids, offsets = page.provenance.lacks
        assert not page.provenance.complete
        assert (ids.reason, ids.first_id, ids.last_id) == ("GAP", 20, 49)
        assert (offsets.reason, offsets.partition) == ("NOT_IN_THE_LOG", bucket_of(BTC))
        assert (offsets.start, offsets.end) == (20, 50)
        await sees(stub, await query_world.commit(BTC, 40))
        page = await client.call(stub.ListTrades, listing(page_size=200))
        assert page.provenance.complete
        assert sequences(list(page.trades)) == list(range(99, -1, -1))


async def forget_below(world: QueryWorld, symbol: str, offset: int) -> None:
    """Delete records as retention would."""
    admin = AIOKafkaAdminClient(bootstrap_servers=world.bootstrap)
    await admin.start()
    try:
        partition = TopicPartition(world.topic, bucket_of(symbol))
        await admin.delete_records({partition: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def test_a_page_past_the_log_is_asked_for_again(query_world: QueryWorld) -> None:
    """A token of rows that this service has not read yet is UNAVAILABLE, with a time to retry."""
    await query_world.send(BTC, 10)
    asked = page_asked(listing(page_size=5))
    high = {query_world.topic: {bucket_of(BTC): 1_000}}
    last = RowKey(FIRST_US, query_world.topic, bucket_of(BTC), 3)
    token = PageToken.after(asked.query_hash, high, last).encode()
    async with query_world.serving() as stub:
        with pytest.raises(UnavailableError) as caught:
            await client.call(stub.ListTrades, listing(page_size=5, page_token=token))
    assert caught.value.retry_after_s > 0
