"""The query service short of memory: what it still answers, and what callers are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from k2.query.v1 import query_pb2

from libs.degradation.level import Level, Rules
from libs.market.errors import ExhaustedError
from libs.rpc import client
from libs.rpc.errors import DETAILS_KEY
from libs.runtime.service import running
from services.query.app import build
from tests.support.directing import Director
from tests.support.polling import eventually
from tests.support.serving import QueryWorld, Stub, read_all, stub_on

CRITICAL, OTHER = "BTCUSDT", "DOGEUSDT"
ROWS = 3_000
COOLDOWN_S = Rules().cooldown_s
Call = Callable[[], Awaitable[object]]


@asynccontextmanager
async def directed(world: QueryWorld, director: Director) -> AsyncIterator[Stub]:
    """Serve with a governor in the test's hand, and so little memory that ROWS are heavy."""
    more = {"governor_address": director.address, "heavy_bytes": 16 * 1024}
    service = await build(world.config().model_copy(update=more))
    async with running(service) as run, client.channel(run.grpc_address) as channel:
        await eventually(service.ready, 30, what="the query service is ready")
        yield stub_on(channel)


async def at_level(stub: Stub, director: Director, level: Level) -> None:
    director.order(memory=level)

    async def reached() -> bool:
        return (await client.call(stub.GetStatus, query_pb2.GetStatusRequest())).level == level.name

    await eventually(reached, 30, what=f"level {level.name}")


def of(symbol: str) -> query_pb2.TradeFilter:
    return query_pb2.TradeFilter(symbol=symbol, exchange="BINANCE")


def calls(stub: Stub, symbol: str) -> dict[str, Call]:
    """Give a light and a heavy query of a symbol, and some of no symbol."""
    point = query_pb2.ListTradesRequest(filter=of(symbol), page_size=5)
    whole = query_pb2.ReadTradesRequest(filter=of(symbol))
    bars = query_pb2.GetBarsRequest(filter=of(symbol), interval=query_pb2.INTERVAL_1D)
    certificate = query_pb2.CheckCompletenessRequest(symbol=symbol, exchange="BINANCE")
    return {
        "last five": lambda: client.call(stub.ListTrades, point),
        "every row": lambda: read_all(stub, whole),
        "every day": lambda: client.call(stub.GetBars, bars),
        "certificate": lambda: client.call(stub.CheckCompleteness, certificate),
        "symbols": lambda: client.call(stub.ListSymbols, query_pb2.ListSymbolsRequest()),
        "snapshots": lambda: client.call(stub.ListSnapshots, query_pb2.ListSnapshotsRequest()),
    }


async def answered(asked: dict[str, Call]) -> set[str]:
    """Say which of these are answered; the others are refused for want of memory."""
    found = set()
    for name, call in asked.items():
        with suppress(ExhaustedError):
            await call()
            found.add(name)
    return found


async def test_each_level_refuses_more_and_recovery_gives_all_back(
    query_world: QueryWorld, director: Director
) -> None:
    """The heaviest first, then all but critical symbols, then all; the status always answers."""
    for symbol in (CRITICAL, OTHER):
        await query_world.send(symbol, ROWS)
        await query_world.commit(symbol, ROWS)
    async with directed(query_world, director) as stub:
        everything = set(calls(stub, OTHER))
        assert await answered(calls(stub, OTHER)) == everything
        moderate = everything - {"every row", "symbols"}
        for level, critical, other in (
            (Level.SOFT, everything, everything),
            (Level.GRACEFUL, moderate, moderate),
            (Level.AGGRESSIVE, {"last five", "certificate"}, set()),
            (Level.CIRCUIT_BREAK, set(), set()),
            (Level.NORMAL, everything, everything),
        ):
            await at_level(stub, director, level)
            assert await answered(calls(stub, CRITICAL)) == critical, level
            assert await answered(calls(stub, OTHER)) == other, level


async def test_a_refusal_tells_the_level_the_estimate_and_when_to_come_back(
    query_world: QueryWorld, director: Director
) -> None:
    """As google.rpc.Status: ErrorInfo and RetryInfo in the trailers."""
    await query_world.send(OTHER, ROWS)
    await query_world.commit(OTHER, ROWS)
    async with directed(query_world, director) as stub:
        await at_level(stub, director, Level.GRACEFUL)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in stub.ReadTrades(query_pb2.ReadTradesRequest(filter=of(OTHER))):
                pass
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        info, retry = details(refused.value)
        assert (info.reason, info.metadata["level"]) == ("SHORT_OF_MEMORY", "GRACEFUL")
        assert info.metadata["expected_rows"] == str(ROWS)
        assert int(info.metadata["expected_bytes"]) > 16 * 1024
        assert retry.retry_delay.ToTimedelta().total_seconds() == COOLDOWN_S
        few = query_pb2.ReadTradesRequest(filter=of(OTHER), limit=5)
        assert (await read_all(stub, few)).num_rows == 5


async def test_who_follows_already_goes_on_and_who_comes_is_refused(
    query_world: QueryWorld, director: Director
) -> None:
    """At CIRCUIT_BREAK too, a follower has every new trade."""
    await query_world.send(OTHER, 10)
    async with directed(query_world, director) as stub:
        request = query_pb2.FollowTradesRequest(filter=of(OTHER))
        async with aclosing(client.stream(stub.FollowTrades, request)) as following:
            first = await anext(following)
            assert not first.trades
            await at_level(stub, director, Level.CIRCUIT_BREAK)
            await query_world.send(OTHER, 5)
            seen: list[int] = []
            while len(seen) < 5:
                seen += [trade.source_sequence for trade in (await anext(following)).trades]
            assert seen == list(range(10, 15))
            with pytest.raises(ExhaustedError):
                async with aclosing(client.stream(stub.FollowTrades, request)) as refused:
                    await anext(refused)


def details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo]:
    """Read what a client in any language finds in the trailers."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(bytes(trailers[DETAILS_KEY]))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(retry)
    return info, retry
