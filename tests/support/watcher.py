"""A client that asks all the time, and holds every answer to be without hole or repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Self

from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.rpc.client import channel
from tests.support.asking import page, sequences
from tools.cli.parts.fleet import Fleet

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

NEWEST_ROWS = 200
PAGE_ROWS = 2_000


class Watcher:
    """Ask for the newest rows and for all pages, in turn; the first wrong answer fails the test.

    Ids of these sessions are contiguous, so a right answer's are too: from the newest one down, and
    from the first one up.
    """

    def __init__(self, fleet: Fleet, symbols: Sequence[str]) -> None:
        self._fleet = fleet
        self._symbols = symbols
        self._first: dict[str, int] = {}
        self._seen_snapshots: set[int] = set()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.queries = 0

    @property
    def snapshots(self) -> int:
        """Number of snapshots that answers were computed from."""
        return len(self._seen_snapshots)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    async def _watch(self) -> None:
        async with channel(self._fleet.door("query").grpc or "") as connection:
            service = QueryServiceStub(connection)
            while not self._stop.is_set():
                for symbol in self._symbols:
                    await self._newest(service, symbol)
                    await self._from_the_first(service, symbol)

    async def _newest(self, service: QueryServiceAsyncStub, symbol: str) -> None:
        answer = await page(service, symbol, rows=NEWEST_ROWS)
        self._note(answer)
        assert_contiguous(list(reversed(sequences(answer))), symbol)

    async def _from_the_first(self, service: QueryServiceAsyncStub, symbol: str) -> None:
        found: list[int] = []
        token = ""
        while token or not found:
            order = pb.ORDER_OLDEST_FIRST
            answer = await page(service, symbol, order=order, rows=PAGE_ROWS, token=token)
            self._note(answer)
            found += sequences(answer)
            token = answer.next_page_token
            if not found:
                return
        assert_contiguous(found, symbol)
        assert self._first.setdefault(symbol, found[0]) == found[0], f"{symbol} lost its first row"

    def _note(self, answer: pb.ListTradesResponse) -> None:
        assert answer.provenance.complete, answer.provenance
        self.queries += 1
        self._seen_snapshots.add(answer.provenance.snapshot_id)


def assert_contiguous(found: Sequence[int], symbol: str) -> None:
    """Fail with the first place where an id does not follow the one before."""
    broken = [(a, b) for a, b in pairwise(found) if b != a + 1]
    assert not broken, f"{symbol}: {broken[0][1]} follows {broken[0][0]}; {len(broken)} such places"
