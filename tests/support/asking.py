"""Questions to a running query service, as any client asks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from k2.query.v1 import query_pb2 as pb

from libs.rpc.client import stream
from tools.chaos.questions import TIMEOUT_S, page, sequences

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

__all__ = ["page", "read_all", "sequences"]


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
