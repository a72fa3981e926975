"""A client that asks all the time while K2 is harmed, and holds every answer to its word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import grpc
from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.market.errors import K2Error
from libs.rpc.client import channel
from tools.chaos.answers import Answer, Judgement
from tools.chaos.questions import page

ROWS = 300
PAUSE_S = 0.1
TIMEOUT_S = 10.0


@dataclass(slots=True)
class Asker:
    """Asks for the newest and the oldest trades of each symbol in turn."""

    address: Callable[[], str]
    symbols: Sequence[str]
    judgement: Judgement = field(default_factory=Judgement)

    async def run(self) -> None:
        """Ask until cancelled; a service that is down is asked again."""
        while True:
            try:
                async with channel(self.address()) as connection:
                    await self._ask(connection)
            except K2Error as error:
                self.judgement.refused(error.reason)
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, connection: grpc.aio.Channel) -> None:
        service = QueryServiceStub(connection)
        for symbol in cycle(self.symbols):
            for order in (pb.ORDER_NEWEST_FIRST, pb.ORDER_OLDEST_FIRST):
                found = await page(
                    service,
                    symbol,
                    order=order,
                    rows=ROWS,
                    columns=("source_sequence", "timestamp"),
                    timeout_s=TIMEOUT_S,
                )
                self.judgement.take(answer_of(symbol, found, order))
                await asyncio.sleep(PAUSE_S)


def answer_of(symbol: str, found: pb.ListTradesResponse, order: pb.Order.ValueType) -> Answer:
    """Turn a page into what is judged: ids, the highest first.

    Trades of one time come in the order of the log, and what was healed is last in it: a page may
    end between them, and says nothing of that time's others.
    """
    trades = list(found.trades)
    if len(trades) == ROWS:
        last = trades[-1].timestamp
        trades = [trade for trade in trades if trade.timestamp != last]
    ids = sorted((trade.source_sequence for trade in trades), reverse=True)
    oldest = order == pb.ORDER_OLDEST_FIRST
    said = found.provenance
    return Answer(symbol, ids, said.complete, said.lacks_total, oldest)
