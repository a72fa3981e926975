"""A WebSocket connection that hands over many messages at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State

from libs.market.clock import Clock, SystemClock
from libs.market.errors import UnavailableError
from services.ingestor.exchange.frames import split
from services.ingestor.parsing.texts import joined, size_bytes

# A message of this size is not Binance's; the connection ends with 1009.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# Read from the socket, not taken yet: beyond it the socket is not read, and the exchange waits.
MAX_WAITING_BYTES = 4 * 1024 * 1024
# A longer answer to the handshake is left to websockets, which refuses it.
MAX_HEAD_BYTES = 64 * 1024

# An exchange that does not answer our close is left without its answer.
CLOSE_TIMEOUT_S = 2.0

_DATA_FRAMES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Burst:
    """Messages in the order of arrival, each with the time its bytes were read."""

    messages: Sequence[bytes]
    received_us: npt.NDArray[np.int64]


class FeedConnection(ClientConnection):
    """A websockets client whose text messages go into a list instead of one `recv` each.

    The handshake, control frames, fragments, closing and everything unusual stay websockets' own.
    """

    clock: Clock = SystemClock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.heard_s = self.loop.time()
        self._head: bytes | None = b""
        self._rest = b""
        self._plain = True
        self._fragments: list[bytes] = []
        self._reads: deque[tuple[Sequence[bytes], int]] = deque()
        self._waiting_messages = 0
        self._waiting_bytes = 0
        self._held = False
        self._arrival: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.heard_s = self.loop.time()
        if self._head is not None:
            data = self._after_head(self._head + data)
        if not data:
            return
        if self._plain:
            self._receive_frames(data)
        else:
            super().data_received(data)
        self._hold_back()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wake()

    def process_event(self, event: Event) -> None:
        """Take over messages that the full parser read."""
        if not isinstance(event, Frame) or event.opcode not in _DATA_FRAMES:
            super().process_event(event)
            return
        self._fragments.append(bytes(event.data))
        if event.fin:
            self._keep([b"".join(self._fragments)])
            self._fragments.clear()

    @property
    def held_back(self) -> bool:
        """True while the socket is not read because its messages are not taken."""
        return self._held

    async def burst(self, *, most: int, gather_s: float) -> Burst:
        """Wait for a message, then `gather_s` for more, and take reads of the socket up to `most`.

        The last read comes whole, so that it may be a few more.

        Raises:
            ConnectionClosed: the connection has ended and everything it brought was taken.
        """
        while not self._reads:
            if self.connection_lost_waiter.done():
                raise self.protocol.close_exc
            await self._arrives()
        if self._waiting_messages < most:
            await asyncio.sleep(gather_s)
        return self._take(most)

    def discard(self) -> int:
        """Forget what was brought and not taken; returns how many messages."""
        count = self._waiting_messages
        self._reads.clear()
        self._waiting_messages = self._waiting_bytes = 0
        return count

    def _after_head(self, data: bytes) -> bytes:
        """Give the handshake's answer to websockets; return the bytes after it."""
        head, found, rest = data.partition(_END_OF_HEAD)
        if not found and len(data) <= MAX_HEAD_BYTES:
            self._head = data
            return b""
        self._head = None
        super().data_received(head + found)
        self._plain = self.protocol.state is State.OPEN
        return rest

    def _receive_frames(self, data: bytes) -> None:
        found = split(self._rest + data if self._rest else data)
        self._rest, self._plain = found.rest, found.plain
        self._keep(found.texts)
        for control in found.others:
            super().data_received(control)
        if not found.plain:
            self._rest = b""
            super().data_received(found.rest)

    def _keep(self, messages: Sequence[bytes]) -> None:
        if not len(messages):
            return
        self._reads.append((messages, self.clock.now_us()))
        self._waiting_messages += len(messages)
        self._waiting_bytes += size_bytes(messages)
        self._wake()

    def _take(self, most: int) -> Burst:
        reads: list[tuple[Sequence[bytes], int]] = []
        count = 0
        while self._reads and count < most:
            reads.append(self._reads.popleft())
            count += len(reads[-1][0])
        messages = joined([texts for texts, _ in reads])
        stamps = np.repeat([stamp for _, stamp in reads], [len(texts) for texts, _ in reads])
        self._waiting_messages -= count
        self._waiting_bytes -= size_bytes(messages)
        self._hold_back()
        return Burst(messages, stamps.astype(np.int64))

    def _hold_back(self) -> None:
        full = self._waiting_bytes > MAX_WAITING_BYTES
        if full == self._held or self.connection_lost_waiter.done():
            return
        self._held = full
        if full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _arrives(self) -> None:
        self._arrival = self.loop.create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None


async def open_feed(url: str, *, timeout_s: float) -> FeedConnection:
    """Connect to a stream.

    No pings of our own: the exchange sends them, and while Kafka makes us hold the socket back
    their answers would not be read, so that a healthy connection would be cut.

    Raises:
        UnavailableError: nothing there speaks WebSocket, or not within `timeout_s`.
    """
    try:
        opened = await connect(
            url,
            create_connection=FeedConnection,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            ping_interval=None,
            open_timeout=timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
        )
    except (OSError, TimeoutError, InvalidHandshake) as error:
        raise UnavailableError(f"no exchange stream at {url[:200]}: {error}", url=url) from error
    if not isinstance(opened, FeedConnection):
        raise TypeError(f"{opened!r} is not a FeedConnection")
    return opened


__all__ = ["Burst", "ConnectionClosed", "FeedConnection", "Response", "open_feed"]
