"""An exchange that answers with more than anybody asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.market.errors import UnavailableError
from services.ingestor.exchange import exchange_info
from services.ingestor.exchange.connection import MAX_HEAD_BYTES, FeedConnection, open_feed
from services.ingestor.exchange.exchange_info import fetch_symbols
from services.ingestor.parsing.texts import Texts
from tests.support.clock import ManualClock


@asynccontextmanager
async def an_endless_answer(start: bytes) -> AsyncIterator[str]:
    """Serve `start` and then the same header line for as long as it is read; give host:port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(start)
        try:
            while True:
                writer.write(b"X-Line: " + b"x" * 1_000 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


async def test_an_endless_exchange_info_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not read until memory or patience ends."""
    monkeypatch.setattr(exchange_info, "MAX_ANSWER_BYTES", 50_000)
    async with an_endless_answer(b"HTTP/1.1 200 OK\r\n\r\n") as address:
        with pytest.raises(UnavailableError, match="more than 50000 bytes"):
            await fetch_symbols(f"http://{address}")


async def test_an_endless_handshake_is_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too long for an answer is websockets' to refuse and throw away."""
    gathered_bytes: list[int] = []
    after_head = FeedConnection._after_head

    def measured(feed: FeedConnection, data: bytes) -> bytes:
        gathered_bytes.append(len(data))
        return after_head(feed, data)

    monkeypatch.setattr(FeedConnection, "_after_head", measured)
    async with an_endless_answer(b"HTTP/1.1 101 Switching Protocols\r\n") as address:
        with pytest.raises(UnavailableError, match="no exchange stream"):
            await open_feed(f"ws://{address}", timeout_s=2)
    one_read_bytes = 256 * 1024
    assert MAX_HEAD_BYTES < max(gathered_bytes) <= MAX_HEAD_BYTES + one_read_bytes


def test_each_message_of_a_burst_has_the_time_its_own_bytes_were_read() -> None:
    """Whoever takes several reads at once takes the last whole, and leaves the next."""
    feed = FeedConnection.__new__(FeedConnection)
    feed._reads = deque()
    feed._waiting_messages = feed._waiting_bytes = 0
    feed._held, feed._arrival = False, None
    clock = ManualClock()
    feed.clock = clock
    read_us = []
    for texts in ([b"a", b"b"], Texts.of([b"c"]), [b"d", b"e"], [b"f"]):
        feed._keep(texts)
        read_us += [clock.now_us()] * len(texts)
        clock.advance(1)
    burst, rest = feed._take(4), feed._take(4)
    assert [*burst.messages] == [b"a", b"b", b"c", b"d", b"e"]
    assert [*burst.received_us, *rest.received_us] == read_us
    assert [*rest.messages] == [b"f"]
    assert (feed._waiting_messages, feed._waiting_bytes) == (0, 0)
