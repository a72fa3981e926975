"""Speak to a running query service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.market.errors import InvalidError
from libs.rpc.client import stream
from tools.cli.reaching import service_channel

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
    """Build the filter of a question from what was typed."""
    return pb.TradeFilter(
        symbol=symbol,
        exchange=exchange,
        start_time=timestamp(since, "--from"),
        end_time=timestamp(until, "--to"),
    )


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
