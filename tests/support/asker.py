"""A client that asks all the time, and believes nothing: no trade twice, no silent hole."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.market.errors import K2Error
from libs.rpc.client import channel
from tests.support.oracle import Violation
from tests.support.processes import Process
from tests.support.stack import Stack
from tools.chaos.answers import Answer, Judgement
from tools.chaos.questions import page, sequences

ROWS = 500
PAUSE_S = 0.1
TIMEOUT_S = 10.0


async def newest(query: Process, symbol: str) -> pb.ListTradesResponse:
    """Return the newest trades of a symbol, as a query process answers now."""
    door = await query.door(TIMEOUT_S)
    async with channel(door.grpc or "") as connection:
        return await page(QueryServiceStub(connection), symbol, rows=ROWS)


@dataclass
class Asker:
    """Asks for the newest trades of a symbol, and looks at what comes."""

    stack: Stack
    random: Random
    judgement: Judgement = field(default_factory=Judgement)

    @property
    def outcomes(self) -> Counter[str]:
        return self.judgement.outcomes

    @property
    def answers(self) -> int:
        return self.judgement.answers

    async def run(self) -> None:
        while True:
            try:
                await self._ask(self.random.choice(self.stack.flow.symbols))
            except (K2Error, AssertionError) as error:
                self.judgement.refused(getattr(error, "reason", "not there"))
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, symbol: str) -> None:
        found = await newest(self.stack.processes["query-1"], symbol)
        said = found.provenance
        ids = sequences(found)
        self.judgement.take(Answer(symbol, ids, said.complete, said.lacks_total))

    def violations(self) -> list[Violation]:
        wrong = self.judgement.wrong
        return [Violation(kind, len(all_), tuple(all_[:5])) for kind, all_ in wrong.items()]
