"""What a query service says of bad requests, and of what it lacks."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2

from libs.lake.table.tables import bucket_of
from libs.market.errors import InvalidError, UnavailableError
from libs.rpc import client
from libs.runtime.service import running
from services.query.app import build
from services.query.asked import RowKey
from services.query.pages import PageToken
from services.query.requests import page_asked
from tests.support.damage import forget_below
from tests.support.listing import BTC, ETH, listing, sees, sequences
from tests.support.polling import eventually
from tests.support.query import FIRST_US
from tests.support.serving import QueryWorld, Stub, list_all, stub_on


async def sees_rows(stub: Stub, rows: int) -> None:
    async def seen() -> bool:
        status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
        return status.tail_rows + status.committed_rows == rows

    await eventually(seen, 10, what=f"the service sees {rows} rows")


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
    assert not service.ready()
    async with running(service) as run, client.channel(run.grpc_address) as channel:
        await eventually(service.ready, 30, what="ready")
        page = await client.call(stub_on(channel).ListTrades, listing(page_size=1))
        assert sequences(list(page.trades)) == [499]


async def test_what_retention_took_is_named(query_world: QueryWorld) -> None:
    """Rows that neither Iceberg nor the log has are named as missing; the rest is answered."""
    await query_world.send(BTC, 100)
    await query_world.commit(BTC, 20)
    await forget_below(query_world.bootstrap, query_world.topic, bucket_of(BTC), 50)
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
