"""Speak to a running query service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.market.errors import InvalidError, NotFoundError
from libs.rpc.client import call, stream
from tools.cli.doors.reaching import service_channel

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

ANSWER_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 3600.0


@asynccontextmanager
async def query_service() -> AsyncIterator[QueryServiceAsyncStub]:
    """Give a stub of the running query service."""
    async with service_channel("query") as connection:
        yield QueryServiceStub(connection)


async def read_trades(
    request: pb.ReadTradesRequest, provenance: list[pb.Provenance]
) -> AsyncIterator[pa.RecordBatch]:
    """Yield the answer's batches, at least one; its provenance lands in the list first."""
    async with query_service() as service:
        async for answer in stream(service.ReadTrades, request, timeout_s=READ_TIMEOUT_S):
            if answer.HasField("provenance"):
                provenance.append(answer.provenance)
            reader = pa.ipc.open_stream(answer.arrow_ipc)
            batches = list(reader)
            for batch in batches or [pa.RecordBatch.from_pylist([], schema=reader.schema)]:
                yield batch


def drained(batches: AsyncIterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn an async stream into a plain one, for writers that block."""
    with asyncio.Runner() as runner:
        while True:
            try:
                yield runner.run(_next(batches))
            except StopAsyncIteration:
                return


async def _next(batches: AsyncIterator[pa.RecordBatch]) -> pa.RecordBatch:
    return await anext(batches)


def trade_filter(
    symbol: str, exchange: str, since: str | None, until: str | None
) -> pb.TradeFilter:
    """Build the filter of a question from what was typed.

    Raises:
        InvalidError: no symbol was named; without one the question is of all of them.
    """
    if not symbol.strip():
        raise InvalidError("name a symbol: `k2 symbols` lists what there is", field="symbol")
    return pb.TradeFilter(
        symbol=symbol,
        exchange=exchange,
        start_time=timestamp(since, "--from"),
        end_time=timestamp(until, "--to"),
    )


async def ensure_known(symbol: str, exchange: str) -> None:
    """Tell a symbol without trades in these times from one that nobody has heard of.

    Raises:
        NotFoundError: no trade of it is known; names those that are spelt like it.
    """
    known = set()
    async with query_service() as service:
        request = pb.ListSymbolsRequest(exchange=exchange, page_size=10_000)
        while True:
            answer = await call(service.ListSymbols, request, timeout_s=ANSWER_TIMEOUT_S)
            known |= {found.symbol for found in answer.symbols}
            request.page_token = answer.next_page_token
            if symbol in known or not request.page_token:
                break
    if symbol not in known:
        raise NotFoundError(unknown(symbol, exchange, known), symbol=symbol)


def unknown(symbol: str, exchange: str, known: Collection[str]) -> str:
    """Say that nobody knows the symbol, and which are nearest."""
    same = [name for name in known if name.upper() == symbol.upper()]
    near = same or get_close_matches(symbol.upper(), known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "`k2 symbols` lists what there is"
    at = f" at {exchange}" if exchange else ""
    return f"no trade of {symbol}{at} is known: {hint}"


def time_travel(snapshot_id: int | None, as_of: str | None) -> pb.TimeTravel | None:
    """Build the state asked for; none means the newest one.

    Raises:
        InvalidError: both were given, or the time is not one.
    """
    if snapshot_id is not None and as_of is not None:
        raise InvalidError("give --snapshot-id or --as-of, not both", field="snapshot_id")
    if snapshot_id is not None:
        return pb.TimeTravel(snapshot_id=snapshot_id)
    return pb.TimeTravel(as_of=timestamp(as_of, "--as-of")) if as_of is not None else None


def timestamp(text: str | None, option: str) -> Timestamp | None:
    """Read an ISO time, UTC where it names no zone.

    Raises:
        InvalidError: it is none; the message names the option.
    """
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidError(
            f"{option} {text!r} is not an ISO time such as 2024-08-09T00:01:30.5", field=option
        ) from error
    stamp = Timestamp()
    stamp.FromDatetime(time.astimezone(UTC) if time.tzinfo else time)
    return stamp
