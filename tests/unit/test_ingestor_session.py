"""A session says of a connection that trades may have been missed before it, or that none were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from libs.market.clock import SystemClock
from libs.runtime.mailbox import Mailbox
from services.ingestor.control import Intake
from services.ingestor.exchange import session as module
from services.ingestor.exchange.connection import Burst, ConnectionClosed, FeedConnection
from services.ingestor.exchange.session import Pace, Session
from services.ingestor.exchange.streams import Streams
from services.ingestor.publishing.messages import Ended, Message, Opened, Received
from tests.support.binance import stamps, table, trade_frame
from tests.support.polling import eventually

TABLE = table("BTCUSDT", "ETHUSDT")
SHUTDOWN = b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}'


class FakeFeed:
    """A connection of which a test says what it brings and when it ends."""

    held_back = False

    def __init__(self, *, deaf: bool = False) -> None:
        self.deaf = deaf
        self._brought: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = asyncio.Event()
        self.transport = self

    @property
    def heard_s(self) -> float:
        return asyncio.get_running_loop().time()

    def brings(self, message: bytes) -> None:
        self._brought.put_nowait(message)

    def abort(self) -> None:
        self._ended.set()

    async def close(self) -> None:
        self._ended.set()

    def discard(self) -> int:
        return self._brought.qsize()

    async def send(self, _request: str) -> None:
        """Take a request; a deaf connection takes none, as a full one does."""
        if self.deaf:
            await asyncio.Event().wait()

    async def burst(self, *, most: int, gather_s: float) -> Burst:
        while self._brought.empty():
            if self._ended.is_set():
                raise ConnectionClosed(None, None)
            await asyncio.sleep(gather_s)
        return Burst([self._brought.get_nowait()], stamps(1))


@dataclass
class World:
    """A session over fake connections, and what it told the publisher."""

    overlap_s: float = 0.0
    requests: tuple[str, ...] = ()
    deaf: tuple[int, ...] = ()
    feeds: list[FakeFeed] = field(default_factory=list)
    told: list[Message] = field(default_factory=list)
    mailbox: Mailbox[Message] = field(default_factory=lambda: Mailbox("publisher", 8))

    async def open(self, _url: str) -> FeedConnection:
        self.feeds.append(FakeFeed(deaf=len(self.feeds) + 1 in self.deaf))
        return cast("FeedConnection", self.feeds[-1])

    def opened(self) -> list[int]:
        return [said.connection for said in self.told if isinstance(said, Opened)]

    def brought(self, connection: int) -> bool:
        return any(isinstance(m, Received) and m.connection == connection for m in self.told)

    async def listen(self) -> None:
        while True:
            self.told.append(await self.mailbox.get())


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Callable[[int], FakeFeed]]:
    """Run a session; gives its connections by number."""
    numbers = iter(range(1, 100))
    session = Session(
        "session-1",
        streams=Streams("ws://nowhere", world.requests),
        table=TABLE,
        codes=[0, 1],
        publisher=world.mailbox,
        numbers=lambda: next(numbers),
        open_feed=world.open,
        pace=Pace(60, 3_600, world.overlap_s, 0.001, 100),
        intake=Intake(),
        clock=SystemClock(),
    )
    tasks = [asyncio.create_task(session.run()), asyncio.create_task(world.listen())]
    try:
        yield lambda number: world.feeds[number - 1]
    finally:
        await session.stop()
        await tasks[0]
        tasks[1].cancel()
        await session.close()


async def test_after_a_connection_was_cut_its_symbols_are_to_be_looked_after() -> None:
    """Said before the next brings anything, and after all that the last one brought."""
    world = World()
    async with running(world) as feed:
        await eventually(lambda: world.opened() == [1])
        feed(1).brings(trade_frame(t=5))
        feed(1).abort()
        await eventually(lambda: world.opened() == [1, 2])
    assert world.told[0] == Opened(1, [0, 1])
    assert [type(message) for message in world.told[1:4]] == [Received, Ended, Opened]


async def test_a_connection_that_took_over_in_time_missed_nothing() -> None:
    """The old one was read beside it, and ended by us."""
    world = World()
    async with running(world) as feed:
        await eventually(lambda: world.opened() == [1])
        feed(1).brings(SHUTDOWN)
        await eventually(lambda: Ended(1) in world.told)
        feed(2).brings(trade_frame(t=5))
        await eventually(lambda: world.brought(2))
        assert world.opened() == [1]


async def test_a_connection_cut_before_the_next_had_taken_over_may_have_missed_trades() -> None:
    """Its notice of the end came, but then too little time."""
    world = World(overlap_s=3_600)
    async with running(world) as feed:
        await eventually(lambda: world.opened() == [1])
        feed(1).brings(SHUTDOWN)
        await eventually(lambda: len(world.feeds) == 2)
        feed(1).abort()
        await eventually(lambda: Ended(1) in world.told)
        feed(2).brings(trade_frame(t=5))
        feed(2).brings(trade_frame(t=6))
        await eventually(lambda: world.opened() == [1, 2])


async def test_a_connection_that_takes_no_request_takes_nothing_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is cut, and the one before it is read on until the next has asked for all."""
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_S", 0.01)
    world = World(requests=("SUBSCRIBE",), deaf=(2,))
    async with running(world) as feed:
        await eventually(lambda: world.opened() == [1])
        feed(1).brings(SHUTDOWN)
        await eventually(lambda: Ended(1) in world.told)
    ended = [said.connection for said in world.told if isinstance(said, Ended)]
    assert ended[:2] == [2, 1]
