"""A record batch that cannot be read costs its own partition alone, and answers say so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from k2.query.v1 import query_pb2

from libs.lake.table.tables import bucket_of
from libs.rpc import client
from services.query.tail import aside
from tests.support.damage import forget_below, segment_of, turned_over
from tests.support.polling import eventually
from tests.support.serving import QueryWorld, Stub

BTC, ETH = "BTCUSDT", "ETHUSDT"
PARTITION = bucket_of(BTC)


async def listed(stub: Stub, symbol: str) -> tuple[list[int], set[str]]:
    """Return a symbol's numbers, and why any are lacking."""
    wanted = query_pb2.TradeFilter(symbol=symbol)
    request = query_pb2.ListTradesRequest(filter=wanted, page_size=1_000)
    page = await client.call(stub.ListTrades, request)
    reasons = {lack.reason for lack in page.provenance.lacks}
    assert page.provenance.complete == (not reasons)
    return [trade.source_sequence for trade in page.trades][::-1], reasons


async def problem(stub: Stub) -> str:
    status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
    return status.log_problem


@pytest.fixture
async def damaged(
    query_world: QueryWorld,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Path, int]:
    """Leave a log whose second batch of BTC is none, one more behind it; say where to mend it."""
    assert bucket_of(ETH) != PARTITION
    monkeypatch.setattr(aside, "AGAIN_S", 0.5)
    await query_world.send(BTC, 100)
    await query_world.send(ETH, 100)
    segment = segment_of(tmp_path_factory, query_world.topic, PARTITION)
    begins = segment.stat().st_size
    await query_world.send(BTC, 50)
    await query_world.send(BTC, 50)
    turned_over(segment, begins + 100)
    return segment, begins + 100


async def test_a_batch_that_is_none_costs_its_own_partition_alone(
    query_world: QueryWorld, damaged: tuple[Path, int]
) -> None:
    """The service comes up; what stands before it is answered as not complete."""
    async with query_world.serving() as stub:
        await eventually(lambda: problem(stub), what="the log's problem")
        assert f"offset 100 of {query_world.topic}, partition {PARTITION}" in await problem(stub)
        await eventually(shows(stub, BTC, 100, "UNREADABLE_BATCH"), what="what is before it")
        await query_world.send(ETH, 10)
        await eventually(shows(stub, ETH, 110), what="all of the other partition")
        await query_world.send(BTC, 10)
        found, reasons = await listed(stub, BTC)
        assert found == list(range(100))
        assert "UNREADABLE_BATCH" in reasons
        turned_over(*damaged)
        await eventually(shows(stub, BTC, 210), what="all of the mended partition")
        await eventually(lambda: mended(stub), what="no problem any more")


@pytest.mark.usefixtures("damaged")
async def test_a_batch_that_the_log_forgets_is_no_problem_any_more(query_world: QueryWorld) -> None:
    """Retention took it, and all that stood behind it: what answers lack is gone for good."""
    async with query_world.serving() as stub:
        await eventually(lambda: problem(stub), what="the log's problem")
        await forget_below(query_world.bootstrap, query_world.topic, PARTITION, 200)
        await eventually(lambda: mended(stub), what="no problem any more")
        await eventually(shows(stub, BTC, 100, "NOT_IN_THE_LOG"), what="what is gone is named")


async def test_a_committed_batch_that_is_none_proves_no_other_log(
    query_world: QueryWorld, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The record below the seam cannot be compared with its row; the tail is read all the same."""
    await query_world.send(BTC, 100)
    await query_world.commit(BTC, 100)
    await query_world.send(ETH, 100)
    await query_world.commit(ETH, 50)
    turned_over(segment_of(tmp_path_factory, query_world.topic, PARTITION), 100)
    await query_world.send(BTC, 10)
    async with query_world.serving() as stub:
        await eventually(shows(stub, BTC, 110), what="all of the damaged partition")
        await eventually(shows(stub, ETH, 100), what="all of the other partition")
        assert not await problem(stub)


def shows(stub: Stub, symbol: str, rows: int, *reasons: str) -> Callable[[], Awaitable[bool]]:
    """Ask whether so many rows are shown, and lack for these reasons."""

    async def shown() -> bool:
        return await listed(stub, symbol) == (list(range(rows)), {*reasons})

    return shown


async def mended(stub: Stub) -> bool:
    return not await problem(stub)
