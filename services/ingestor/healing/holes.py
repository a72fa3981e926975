"""Tell the table's ledger of ids that the exchange never had."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from k2.writer.v1 import ledger_pb2, writer_pb2_grpc

from libs.market.trade import AssetClass
from libs.rpc import client
from services.ingestor.publishing.encoding import EXCHANGE

TIMEOUT_S = 15.0
REASON = "historicalTrades lists the trades before and after them, and none between"

# Symbol, first id, last id; raises K2Error where nobody records it.
Declare = Callable[[str, int, int], Awaitable[None]]


def declare_to(writer_address: str) -> Declare:
    """Declare through a writer; any of them commits it."""

    async def declare(symbol: str, first: int, last: int) -> None:
        async with client.channel(writer_address) as channel:
            stub = writer_pb2_grpc.WriterServiceStub(channel)
            request = ledger_pb2.RecordVenueHoleRequest(
                symbol=symbol,
                exchange=EXCHANGE,
                asset_class=AssetClass.CRYPTO,
                first_id=first,
                last_id=last,
                reason=REASON,
            )
            await client.call(stub.RecordVenueHole, request, timeout_s=TIMEOUT_S)

    return declare
