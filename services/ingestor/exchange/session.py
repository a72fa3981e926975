"""One session: keeps a connection to the exchange and tells the publisher what it brings."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from libs.market.clock import Clock
from libs.market.errors import UnavailableError
from libs.runtime.actor import Actor
from libs.runtime.backoff import Backoff
from libs.runtime.first import first_of
from libs.runtime.mailbox import Mailbox
from services.ingestor import measures
from services.ingestor.control import Intake
from services.ingestor.exchange.connection import ConnectionClosed, FeedConnection
from services.ingestor.exchange.link import Link
from services.ingestor.exchange.streams import REQUEST_EVERY_S, Streams
from services.ingestor.feeds import FeedState
from services.ingestor.parsing.binance import Parsed, parse
from services.ingestor.parsing.symbols import SymbolTable
from services.ingestor.publishing.messages import Ended, Message, Opened, Received

log = structlog.get_logger()

Open = Callable[[str], Awaitable[FeedConnection]]

# Binance allows 300 connection attempts in five minutes: one a second.
BACKOFF = Backoff(first_s=0.2, most_s=10)
LIVED_S = 1.0
REQUEST_TIMEOUT_S = 5.0


class End(Enum):
    """Why a connection is not followed any longer."""

    CLOSED = auto()
    SILENT = auto()
    RENEW = auto()
    NOT_TAKING = auto()


STATES = {
    End.CLOSED: FeedState.RECONNECTING,
    End.SILENT: FeedState.SILENT,
    End.RENEW: FeedState.RECONNECTING,
    End.NOT_TAKING: FeedState.NOT_TAKING,
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How a session treats its connections."""

    silence_s: float
    life_s: float
    overlap_s: float
    gather_s: float
    burst_messages: int


class Session(Actor):
    """Reads one connection at a time, two while one takes over from the other.

    Parsing happens here, between the socket and the publisher's mailbox: while that is full,
    nothing is taken from the connection, and a full connection does not read its socket.
    """

    def __init__(
        self,
        name: str,
        *,
        streams: Streams,
        table: SymbolTable,
        codes: Sequence[int],
        publisher: Mailbox[Message],
        numbers: Callable[[], int],
        open_feed: Open,
        pace: Pace,
        intake: Intake,
        clock: Clock,
    ) -> None:
        self.name = name
        self.state = FeedState.CONNECTING
        self.reconnects = 0
        self.connected_once = False
        self._streams = streams
        self._table = table
        self._codes = codes
        self._may_have_missed = True
        self._publisher = publisher
        self._numbers = numbers
        self._open_feed = open_feed
        self._pace = pace
        self._intake = intake
        self._clock = clock
        self._stopping = asyncio.Event()
        self._took_over = asyncio.Event()
        self._links: dict[int, Link] = {}

    async def run(self) -> None:
        failures = 0
        async with asyncio.TaskGroup() as retirements:
            while (link := await self._connect()) is not None:
                end = await self._follow_while_taking(link)
                log.info("connection_ended", session=self.name, why=end.name.lower())
                self.state = STATES[end]
                if end is End.NOT_TAKING:
                    await self._give_up()
                elif end is End.RENEW:
                    self._took_over = asyncio.Event()
                    retirements.create_task(self._retire(link, self._took_over))
                else:
                    await self._drop(link)
                lived_s = self._clock.monotonic_s() - link.opened_s
                failures = 0 if lived_s > LIVED_S else failures + 1
                await self._back_off(failures)
            self._took_over.set()
        self.state = FeedState.STOPPED

    async def stop(self) -> None:
        self._stopping.set()
        self._took_over.set()
        await asyncio.gather(*(link.feed.close() for link in list(self._links.values())))

    async def close(self) -> None:
        for link in list(self._links.values()):
            link.feed.transport.abort()
        self._links.clear()
        self._may_have_missed = True
        measures.CONNECTED.set(0)

    async def _connect(self) -> Link | None:
        """Try until connected; None once stopping."""
        failures = 0
        while await self._may_connect():
            try:
                feed = await self._open_unless_stopped()
            except UnavailableError as error:
                failures += 1
                log.warning("exchange_unavailable", session=self.name, error=error.message)
                await self._back_off(failures)
                continue
            return None if feed is None else await self._begin(feed)
        return None

    async def _may_connect(self) -> bool:
        """Wait while nothing is taken; False once stopping."""
        await first_of(self._intake.opened(), self._stopping.wait())
        return not self._stopping.is_set()

    async def _open_unless_stopped(self) -> FeedConnection | None:
        opening = asyncio.ensure_future(self._open_feed(self._streams.url))
        await first_of(opening, self._stopping.wait())
        if opening.cancelled():
            return None
        if self._stopping.is_set() and opening.exception() is None:
            opening.result().transport.abort()
            return None
        return opening.result()

    async def _begin(self, feed: FeedConnection) -> Link | None:
        link = Link(self._numbers(), feed, self._clock.monotonic_s())
        self._links[link.number] = link
        measures.CONNECTED.inc()
        if self.connected_once:
            self.reconnects += 1
            measures.RECONNECTS.inc()
        if await self._subscribed(feed):
            self.state, self.connected_once = FeedState.LIVE, True
            self._took_over.set()
            where = self._streams.url[:80]
            log.info("connected", session=self.name, connection=link.number, url=where)
        return link

    async def _subscribed(self, feed: FeedConnection) -> bool:
        """Ask for what the URL has no room for. A connection that takes no request is cut."""
        try:
            for request in self._streams.requests:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await feed.send(request)
                await asyncio.sleep(REQUEST_EVERY_S)
        except (ConnectionClosed, TimeoutError):
            log.warning("request_not_taken", session=self.name)
            feed.transport.abort()
            return False
        return True

    async def _follow_while_taking(self, link: Link) -> End:
        """Follow a connection, also where it waits for the publisher, until nothing is taken."""
        following = asyncio.ensure_future(self._follow(link))
        await first_of(following, self._intake.stopped())
        return End.NOT_TAKING if following.cancelled() else following.result()

    async def _follow(self, link: Link) -> End:
        """Pass on what a connection brings until it ends or another should take over."""
        renew_at_s = link.opened_s + self._pace.life_s * random.uniform(0.95, 1)  # noqa: S311
        while True:
            if self._may_have_missed:
                await self._say_opened(link)
            try:
                async with asyncio.timeout(link.patience_s(self._pace.silence_s)):
                    parsed = await self._take(link)
            except TimeoutError:
                if link.silent_for(self._pace.silence_s):
                    return End.SILENT
                parsed = None
            except ConnectionClosed:
                return End.CLOSED
            if parsed is not None:
                await self._tell(link, parsed)
            renew = parsed is not None and parsed.shutdown
            if (renew or self._clock.monotonic_s() > renew_at_s) and not self._stopping.is_set():
                return End.RENEW

    async def _say_opened(self, link: Link) -> None:
        """Have the symbols looked after that this connection does not bring by itself."""
        self._may_have_missed = False
        try:
            await self._publisher.put(Opened(link.number, self._codes))
        except asyncio.CancelledError:
            self._may_have_missed = True
            raise

    async def _take(self, link: Link) -> Parsed:
        pace = self._pace
        burst = await link.feed.burst(most=pace.burst_messages, gather_s=pace.gather_s)
        return parse(burst.messages, burst.received_us, self._table)

    async def _tell(self, link: Link, parsed: Parsed) -> None:
        measures.IGNORED.inc(parsed.ignored)
        for answer in parsed.answers:
            if answer.error:
                log.warning("request_refused", session=self.name, error=answer.error[:200])
        if len(parsed.trades) or parsed.rejected:
            received = Received(link.number, parsed.trades, tuple(parsed.rejected))
            try:
                await self._publisher.put(received)
            except asyncio.CancelledError:
                self._intake.discard(len(parsed.trades) + len(parsed.rejected))
                raise

    async def _retire(self, link: Link, took_over: asyncio.Event) -> None:
        """Read a connection on while another takes over, then close it and read it empty."""
        reading = asyncio.ensure_future(self._read_out(link))
        closing = asyncio.ensure_future(self._close_after(link, took_over))
        try:
            await reading
        finally:
            closing.cancel()
            await asyncio.wait({reading, closing})
        self._may_have_missed = self._may_have_missed or not link.handed_over
        await self._forget(link)

    async def _read_out(self, link: Link) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._tell(link, await self._take(link))

    async def _close_after(self, link: Link, took_over: asyncio.Event) -> None:
        await took_over.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.overlap_s):
                await self._stopping.wait()
        link.handed_over = True
        await link.feed.close()

    async def _drop(self, link: Link) -> None:
        """Close a dead connection; what it brought before it died is read out."""
        link.feed.transport.abort()
        await self._read_out(link)
        self._may_have_missed = True
        await self._forget(link)

    async def _give_up(self) -> None:
        """Leave the exchange: what connections have brought and nobody has read is a gap."""
        for link in list(self._links.values()):
            link.feed.transport.abort()
            self._intake.discard(link.feed.discard())
            self._may_have_missed = True
            await self._forget(link)

    async def _forget(self, link: Link) -> None:
        if self._links.pop(link.number, None) is not None:
            measures.CONNECTED.dec()
            await self._publisher.put(Ended(link.number))

    async def _back_off(self, failures: int) -> None:
        if not failures:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(BACKOFF.wait_s(failures)):
                await self._stopping.wait()
