"""The query service over a real log and a real table, asked over gRPC."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from decimal import Decimal

import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2
from pyiceberg.table.update import RemoveSnapshotsUpdate

from libs.lake.table.tables import bucket_of
from libs.market.errors import NotFoundError
from libs.rpc import client
from libs.wire.schema import TRADE_SCHEMA
from tests.support.listing import BTC, ETH, listing, sees, sequences
from tests.support.query import FIRST_US
from tests.support.serving import QueryWorld, list_all, read_all


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
        async with aclosing(responses), asyncio.timeout(60):
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
