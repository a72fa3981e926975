"""The query service over trades that were sent again or put off, with a real log and table."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pyarrow as pa
from k2.query.v1 import query_pb2

from libs.kafka.send import send_values
from libs.lake.commits.prepared import Kind
from libs.lake.table.tables import bucket_of
from libs.rpc import client
from tests.support.damage import forget_below
from tests.support.polling import eventually
from tests.support.query import FIRST_US, renumbered, trade_rows
from tests.support.serving import QueryWorld, Stub, list_all, read_all

HIGH, LOW = "ETHUSDT", "PEPEUSDT"
PARTITION = bucket_of(HIGH)
Trade = tuple[str, int]


@dataclass
class Story:
    """Trades of two symbols of one partition, as they were sent; their places are their offsets."""

    world: QueryWorld
    sent: list[Trade] = field(default_factory=list)

    def batch(self, start: int, end: int) -> pa.RecordBatch:
        return pa.concat_batches([self.row(at) for at in range(start, end)])

    def row(self, at: int) -> pa.RecordBatch:
        symbol, number = self.sent[at]
        times = [FIRST_US + (2 * number + (symbol == LOW)) * 1_000_000]
        row = trade_rows(symbol, [at], times_us=times, partition=PARTITION, topic=self.world.topic)
        return renumbered(row, [number])

    async def send(self, trades: Sequence[Trade]) -> None:
        start = len(self.sent)
        self.sent += trades
        values = [
            self.world.values(self.sent[at][0], self.row(at))[0]
            for at in range(start, len(self.sent))
        ]
        keys = [symbol.encode() for symbol, _ in trades]
        await send_values(self.world.producer, self.world.topic, PARTITION, keys, values)

    async def commit(
        self,
        start: int,
        end: int,
        *,
        shed: Sequence[str] = (),
        kind: Kind = Kind.APPEND,
        without: Sequence[int] = (),
    ) -> int:
        """Commit what was sent at these offsets, as a writer does that knows what is new of it."""
        new = [at for at in range(start, end) if at not in without]
        batch = pa.concat_batches([self.row(at) for at in new])
        if kind is Kind.BACKFILL:
            batch = batch.filter(pa.compute.equal(batch["symbol"], LOW))
        landed = await asyncio.to_thread(
            self.world.history.commit, batch, {PARTITION: (start, end)}, shed=shed, kind=kind
        )
        return landed.snapshot_id


def alternating(start: int, end: int) -> list[Trade]:
    """Return trades of both symbols in turns, each numbered on by itself."""
    return [((HIGH, LOW)[at % 2], at // 2) for at in range(start, end)]


async def answers(stub: Stub) -> tuple[list[Trade], bool]:
    """Ask the same of every door: pages, a page of the newest, an Arrow stream, bars, symbols."""
    oldest = query_pb2.ORDER_OLDEST_FIRST
    request = query_pb2.ListTradesRequest(order=oldest, page_size=7)
    listed = [(t.symbol, t.source_sequence) for t in await list_all(stub, request)]
    page = await client.call(stub.ListTrades, query_pb2.ListTradesRequest(page_size=5))
    assert [(t.symbol, t.source_sequence) for t in page.trades] == listed[::-1][:5]
    read = await read_all(stub, query_pb2.ReadTradesRequest(order=oldest))
    columns = read.select(["symbol", "source_sequence"]).to_pylist()
    assert [(row["symbol"], row["source_sequence"]) for row in columns] == listed
    symbols = await client.call(stub.ListSymbols, query_pb2.ListSymbolsRequest())
    counts = {found.symbol: found.trades for found in symbols.symbols}
    for symbol in (HIGH, LOW):
        wanted = query_pb2.TradeFilter(symbol=symbol)
        asked = query_pb2.GetBarsRequest(filter=wanted, interval=query_pb2.INTERVAL_1M)
        bars = (await client.call(stub.GetBars, asked)).bars
        own = sum(name == symbol for name, _ in listed)
        assert sum(bar.trades for bar in bars) == counts.get(symbol, 0) == own
        last = query_pb2.ListTradesRequest(filter=wanted, page_size=3)
        newest = (await client.call(stub.ListTrades, last)).trades
        mine = [trade for trade in listed if trade[0] == symbol][::-1]
        assert [(t.symbol, t.source_sequence) for t in newest] == mine[:3]
    return listed, page.provenance.complete


async def status(stub: Stub) -> query_pb2.GetStatusResponse:
    return await client.call(stub.GetStatus, query_pb2.GetStatusRequest())


async def sees(stub: Stub, snapshot_id: int) -> None:
    async def seen() -> bool:
        return (await status(stub)).provenance.snapshot_id == snapshot_id

    await eventually(seen, 10, what=f"the service sees snapshot {snapshot_id}")


async def reads(stub: Stub, offset: int) -> None:
    async def there() -> bool:
        high = {high.topic: dict(high.offsets) for high in (await status(stub)).provenance.high}
        return any(offsets.get(PARTITION) == offset for offsets in high.values())

    await eventually(there, 10, what=f"the service has read up to {offset}")


async def test_shed_rows_stay_in_every_answer(query_world: QueryWorld) -> None:
    """From being read, over the commit that passes them by and the backfill, to the end."""
    story = Story(query_world)
    await story.send(alternating(0, 40))
    wanted = alternating(0, 40)
    async with query_world.serving() as stub:
        assert await answers(stub) == (wanted, True)
        await sees(stub, await story.commit(0, 20, shed=[LOW]))
        assert (await status(stub)).held_rows == 10
        assert await answers(stub) == (wanted, True)
        await sees(stub, await story.commit(20, 30))
        assert await answers(stub) == (wanted, True)
        await sees(stub, await story.commit(0, 10, kind=Kind.BACKFILL))
        assert (await status(stub)).held_rows == 5
        assert await answers(stub) == (wanted, True)
        await sees(stub, await story.commit(10, 20, kind=Kind.BACKFILL))
        assert (await status(stub)).held_rows == 0
        assert await answers(stub) == (wanted, True)


async def test_shed_rows_are_read_back_by_a_service_that_starts(query_world: QueryWorld) -> None:
    """It was not there when the seam passed them: the log still has them."""
    story = Story(query_world)
    await story.send(alternating(0, 40))
    await story.commit(0, 20, shed=[LOW])
    await story.commit(20, 30)
    async with query_world.serving() as stub:

        async def complete() -> bool:
            return (await status(stub)).provenance.complete

        await eventually(complete, 20, what="the shed rows are read back")
        assert await answers(stub) == (alternating(0, 40), True)
        assert (await status(stub)).held_rows == 10


async def test_shed_rows_that_are_gone_are_named(query_world: QueryWorld) -> None:
    """The log no longer has the first of them; the others are answered."""
    story = Story(query_world)
    await story.send(alternating(0, 30))
    await story.commit(0, 20, shed=[LOW])
    await forget_below(query_world.bootstrap, query_world.topic, PARTITION, 6)
    async with query_world.serving() as stub:

        async def read_back() -> bool:
            return (await status(stub)).held_rows == 7

        await eventually(read_back, 20, what="what is left of the shed rows is read back")
        listed, complete = await answers(stub)
        assert listed == [trade for trade in alternating(0, 30) if trade not in lost()]
        assert not complete
        [lack] = (await status(stub)).provenance.lacks
        assert (lack.partition, lack.start, lack.reason) == (PARTITION, 0, "SHED")
        assert lack.end >= 6


def lost() -> list[Trade]:
    return [(LOW, 0), (LOW, 1), (LOW, 2)]


async def test_a_trade_sent_again_never_shows_twice(query_world: QueryWorld) -> None:
    """Before the first is committed, between both, and after; after a restart too."""
    story = Story(query_world)
    await story.send(alternating(0, 10))
    wanted = alternating(0, 14)
    async with query_world.serving() as stub:
        await story.send([(HIGH, 2), *alternating(10, 12), (LOW, 4), (HIGH, 5)])
        await story.send([*alternating(12, 14), (LOW, 0), (HIGH, 6)])
        await reads(stub, 19)
        assert await answers(stub) == (wanted, True)
        await sees(stub, await story.commit(0, 11, without=[10]))
        assert await answers(stub) == (wanted, True)
        await sees(stub, await story.commit(11, 14, without=[13]))
        assert await answers(stub) == (wanted, True)
    async with query_world.serving() as stub:
        assert await answers(stub) == (wanted, True)
        await sees(stub, await story.commit(14, 17, without=[14]))
        assert await answers(stub) == (wanted, True)


async def test_a_follower_gets_a_trade_that_is_sent_again_once(query_world: QueryWorld) -> None:
    """Also while what it has seen is shed and backfilled behind it."""
    story = Story(query_world)
    await story.send(alternating(0, 6))
    found: list[Trade] = []
    async with query_world.serving() as stub:
        responses = client.stream(stub.FollowTrades, query_pb2.FollowTradesRequest(last=6))
        async with aclosing(responses), asyncio.timeout(60):
            found += [(t.symbol, t.source_sequence) for t in (await anext(responses)).trades]
            await story.send([*alternating(2, 5), *alternating(6, 8)])
            await sees(stub, await story.commit(0, 6, shed=[LOW]))
            await sees(stub, await story.commit(0, 6, kind=Kind.BACKFILL))
            await story.send([(LOW, 2), *alternating(8, 10)])
            async for response in responses:
                found += [(t.symbol, t.source_sequence) for t in response.trades]
                if found[-1] == (LOW, 4):
                    break
    assert found == alternating(0, 10)
