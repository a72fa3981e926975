"""Questions to a query service, and waiting until it sees."""

from __future__ import annotations

from k2.query.v1 import query_pb2

from libs.rpc import client
from tests.support.polling import eventually
from tests.support.serving import Stub

BTC, ETH = "BTCUSDT", "ETHUSDT"


def sequences(trades: list[query_pb2.Trade]) -> list[int]:
    return [trade.source_sequence for trade in trades]


def listing(symbol: str = BTC, **fields: object) -> query_pb2.ListTradesRequest:
    wanted = query_pb2.TradeFilter(symbol=symbol)
    return query_pb2.ListTradesRequest(filter=wanted, **fields)  # type: ignore[arg-type]


async def sees(stub: Stub, snapshot_id: int) -> None:
    async def seen() -> bool:
        status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
        return status.provenance.snapshot_id == snapshot_id

    await eventually(seen, 10, what=f"the service sees snapshot {snapshot_id}")
