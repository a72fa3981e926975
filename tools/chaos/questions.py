"""Questions to a running query service, as any client asks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from k2.query.v1 import query_pb2 as pb

from libs.rpc.client import call

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

TIMEOUT_S = 30.0


async def page(
    service: QueryServiceAsyncStub,
    symbol: str,
    *,
    order: pb.Order.ValueType = pb.ORDER_NEWEST_FIRST,
    rows: int,
    token: str = "",
    columns: Sequence[str] = ("source_sequence",),
    timeout_s: float = TIMEOUT_S,
) -> pb.ListTradesResponse:
    """Return one page of a symbol's trades, their sequence only if not said otherwise."""
    request = pb.ListTradesRequest(
        filter=pb.TradeFilter(symbol=symbol),
        order=order,
        columns=columns,
        page_size=rows,
        page_token=token,
    )
    return await call(service.ListTrades, request, timeout_s=timeout_s)


def sequences(answer: pb.ListTradesResponse) -> list[int]:
    """Return the exchange's sequence numbers on a page, in its order."""
    return [trade.source_sequence for trade in answer.trades]
