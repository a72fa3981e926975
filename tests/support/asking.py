"""Questions to a running query service, as any client asks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from k2.query.v1 import query_pb2 as pb

from libs.rpc.client import call, stream

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

TIMEOUT_S = 30.0


async def read_all(service: QueryServiceAsyncStub, symbol: str) -> pa.Table:
    """Return every trade of a symbol, oldest first, all columns."""
    request = pb.ReadTradesRequest(
        filter=pb.TradeFilter(symbol=symbol), order=pb.ORDER_OLDEST_FIRST
    )
    parts = [
        pa.ipc.open_stream(answer.arrow_ipc).read_all()
        async for answer in stream(service.ReadTrades, request, timeout_s=TIMEOUT_S)
    ]
    return pa.concat_tables(parts)


async def page(
    service: QueryServiceAsyncStub,
    symbol: str,
    *,
    order: pb.Order.ValueType = pb.ORDER_NEWEST_FIRST,
    rows: int,
    token: str = "",
) -> pb.ListTradesResponse:
    """Return one page of a symbol's trades, their sequence only."""
    request = pb.ListTradesRequest(
        filter=pb.TradeFilter(symbol=symbol),
        order=order,
        columns=["source_sequence"],
        page_size=rows,
        page_token=token,
    )
    return await call(service.ListTrades, request, timeout_s=TIMEOUT_S)


def sequences(answer: pb.ListTradesResponse) -> list[int]:
    """Return the exchange's sequence numbers on a page, in its order."""
    return [trade.source_sequence for trade in answer.trades]
