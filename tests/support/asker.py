"""A client that asks all the time, and believes nothing: no trade twice, no silent hole."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.market.errors import K2Error
from libs.rpc.client import channel
from tests.support.asking import page, sequences
from tests.support.oracle import Violation
from tests.support.processes import Process
from tests.support.stack import Stack

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
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        return self.outcomes["complete"] + self.outcomes["incomplete"]

    async def run(self) -> None:
        while True:
            try:
                await self._ask(self.random.choice(self.stack.flow.symbols))
            except (K2Error, AssertionError) as error:
                self.outcomes[getattr(error, "reason", "not there")] += 1
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, symbol: str) -> None:
        answer = await newest(self.stack.processes["query-1"], symbol)
        complete = answer.provenance.complete
        self.outcomes["complete" if complete else "incomplete"] += 1
        self._judge(symbol, sequences(answer), complete=complete)

    def _judge(self, symbol: str, ids: list[int], *, complete: bool) -> None:
        for newer, older in pairwise(ids):
            if older >= newer:
                self._note("an answer repeats a trade", f"{symbol}: {newer}, {older}")
            if complete and older != newer - 1:
                self._note("an answer is called complete and is not", f"{symbol}: {newer}, {older}")

    def _note(self, kind: str, what: str) -> None:
        self.wrong.setdefault(kind, []).append(what)

    def violations(self) -> list[Violation]:
        return [Violation(kind, len(all_), tuple(all_[:5])) for kind, all_ in self.wrong.items()]
