"""From the exchange's socket to the answer, on real parts, while queries run throughout."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub
from pyiceberg.exceptions import CommitFailedException

from libs.lake.table.catalog import open_lake
from libs.lake.table.tables import TRADES
from libs.market.errors import UnavailableError
from libs.rpc.client import call, channel
from tests.support.asking import page, read_all, sequences
from tests.support.polling import eventually
from tests.support.realdata import binance_recordings, binance_truth, needs_realdata
from tests.support.watcher import Watcher, assert_contiguous
from tests.support.whole import all_arrived, whole_k2
from tools.cli.doors.health import is_serving
from tools.cli.parts.fleet import Fleet
from tools.cli.session.proof import prove
from tools.cli.session.source import Source
from tools.simulator import truth

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

LEAST_QUERIES = 50
# Of none and of a commit; how many more there are is the machine's speed.
LEAST_SNAPSHOTS = 2
FIRST_PAGE_ROWS = 700


@needs_realdata
@pytest.mark.parametrize("time_unit", ["MILLISECOND", "MICROSECOND"])
async def test_a_recorded_session_is_answered_whole_and_to_the_digit(
    tmp_path: Path, time_unit: str
) -> None:
    """All 34,419 recorded trades come back equal, and no query in between had a hole or repeat."""
    source = Source(recordings=tuple(binance_recordings()), pace="60")
    expected = recorded_truth()
    async with whole_k2(tmp_path, source, {"K2_INGESTOR_TIME_UNIT": time_unit}) as fleet:
        async with Watcher(fleet, ["BTCUSDT", "ETHUSDT"]) as watcher:
            await all_arrived(fleet, expected.num_rows)
            await asked_enough(watcher)
        async with channel(fleet.door("query").grpc or "") as connection:
            service = QueryServiceStub(connection)
            answers = [await read_all(service, symbol) for symbol in ("BTCUSDT", "ETHUSDT")]
    assert comparable(pa.concat_tables(answers)).equals(expected)


async def asked_enough(watcher: Watcher) -> None:
    """Wait for many answers, over commits: where the machine is busy, the tail is seconds ahead."""
    await eventually(lambda: watcher.queries >= LEAST_QUERIES, 240, what="answers")
    await eventually(lambda: watcher.snapshots >= LEAST_SNAPSHOTS, what="answers over commits")


def recorded_truth() -> pa.Table:
    """Return what the recordings hold, by symbol and id, as the answers are compared."""
    table = pq.read_table(binance_truth())
    return pa.table(
        {
            "symbol": table["symbol"].cast(pa.string()),
            "sequence": table["trade_id"].cast(pa.int64()),
            "price": table["price"].cast(pa.string()).cast(pa.decimal128(28, 12)),
            "quantity": table["qty"].cast(pa.string()).cast(pa.decimal128(28, 12)),
            "time_ms": table["trade_time_ms"].cast(pa.int64()),
            "sold": table["is_buyer_maker"].cast(pa.bool_()),
        }
    ).sort_by([("symbol", "ascending"), ("sequence", "ascending")])


def comparable(answer: pa.Table) -> pa.Table:
    """Return an answer's rows as the truth has them."""
    time_us = answer["timestamp"].cast(pa.int64())
    return (
        pa.table(
            {
                "symbol": answer["symbol"].cast(pa.string()),
                "sequence": answer["source_sequence"],
                "price": answer["price"],
                "quantity": answer["quantity"],
                "time_ms": pc.divide(time_us, 1000),
                "sold": pc.equal(answer["side"].cast(pa.string()), "SELL"),
            }
        )
        .sort_by([("symbol", "ascending"), ("sequence", "ascending")])
        .combine_chunks()
    )


async def test_a_generated_session_is_proven_without_recorded_data(tmp_path: Path) -> None:
    """The demo's own proof holds for a generated session, watched by queries throughout."""
    source = Source(seed=11, symbols=20, duration_s=30, trades_per_second=500, pace="5")
    expected = truth.expected(source.session())
    busiest = sorted(expected, key=lambda symbol: -expected[symbol].count)[:3]
    async with whole_k2(tmp_path, source) as fleet:
        async with Watcher(fleet, busiest) as watcher:
            await all_arrived(fleet, sum(symbol.count for symbol in expected.values()))
            await asked_enough(watcher)
        proof = await prove(expected, fleet.door("query").grpc or "")
    assert proof.passed, [s for s in expected if not proof.holds_for(s)]


async def test_pages_go_on_over_a_commit_an_expiry_and_a_restart(tmp_path: Path) -> None:
    """Whatever happens between two pages of a query, they have no hole and no repeat."""
    source = Source(seed=5, symbols=2, duration_s=600, trades_per_second=400, pace="2")
    head = islice(source.session(), 5_000)
    busiest = max(truth.expected(head).values(), key=lambda each: each.count)
    symbol, first = busiest.symbol, busiest.first_id
    async with (
        whole_k2(tmp_path, source) as fleet,
        channel(fleet.door("query").grpc or "") as connection,
    ):
        service = QueryServiceStub(connection)
        await rows_and_snapshots(service, rows=5_000, snapshots=2)
        for disturb in (another_commit, expiry, restart):
            found = await paged(service, symbol, partial(disturb, service, fleet))
            assert len(found) > FIRST_PAGE_ROWS
            assert_contiguous([first - 1, *found], symbol)


async def paged(
    service: QueryServiceAsyncStub, symbol: str, after_the_first: Callable[[], Awaitable[None]]
) -> list[int]:
    """Return the sequences of all pages, oldest first, with something done after the first one."""
    order = pb.ORDER_OLDEST_FIRST
    answer = await page(service, symbol, order=order, rows=FIRST_PAGE_ROWS)
    await after_the_first()
    found, token = sequences(answer), answer.next_page_token
    while token:
        answer = await page(service, symbol, order=order, rows=FIRST_PAGE_ROWS, token=token)
        found, token = found + sequences(answer), answer.next_page_token
    return found


async def rows_and_snapshots(service: QueryServiceAsyncStub, *, rows: int, snapshots: int) -> None:
    """Wait until the table has so many rows and snapshots."""

    async def there() -> bool:
        status = await call(service.GetStatus, pb.GetStatusRequest())
        listed = await call(service.ListSnapshots, pb.ListSnapshotsRequest())
        return status.committed_rows >= rows and len(listed.snapshots) >= snapshots

    await eventually(there, 60, what="rows and snapshots")


async def another_commit(service: QueryServiceAsyncStub, _: Fleet) -> None:
    """Wait until the seam has moved past what the first page was computed from."""
    before = (await call(service.GetStatus, pb.GetStatusRequest())).provenance.snapshot_id

    async def moved() -> bool:
        status = await call(service.GetStatus, pb.GetStatusRequest())
        return status.provenance.snapshot_id != before

    await eventually(moved, 30, what="another commit")


async def expiry(service: QueryServiceAsyncStub, fleet: Fleet) -> None:
    """Expire every snapshot but the head, as other engines do, and wait until it is seen."""
    data = fleet.layout.data
    catalog = open_lake(f"sqlite:///{data / 'catalog.db'}", str(data / "warehouse"))
    listed = await call(service.ListSnapshots, pb.ListSnapshotsRequest())
    oldest = min(listed.snapshots, key=lambda each: each.commit_time.ToMicroseconds())

    def expire() -> None:
        table = catalog.load_table(TRADES)
        table.maintenance.expire_snapshots().by_id(oldest.snapshot_id).commit()

    await asyncio.to_thread(until_it_lands, expire)

    async def gone() -> bool:
        after = await call(service.ListSnapshots, pb.ListSnapshotsRequest(page_size=1_000))
        return all(each.snapshot_id != oldest.snapshot_id for each in after.snapshots)

    await eventually(gone, 30, what="expiry")


def until_it_lands(commit: Callable[[], None], tries: int = 20) -> None:
    """Commit beside a busy writer: it takes a few tries."""
    for attempt in range(tries):
        try:
            return commit()
        except CommitFailedException:
            if attempt == tries - 1:
                raise
    return None


async def restart(service: QueryServiceAsyncStub, fleet: Fleet) -> None:
    """Kill the query service, and wait until its successor serves at the same address."""
    killed = fleet.door("query")
    os.kill(killed.pid, signal.SIGKILL)

    async def serving_again() -> bool:
        try:
            door = fleet.doors().get(killed.name)
            await call(service.GetStatus, pb.GetStatusRequest(), timeout_s=2)
        except UnavailableError:
            return False
        return door is not None and door.pid != killed.pid and await is_serving(door.grpc or "")

    await eventually(serving_again, 60, what="the restarted query service")
