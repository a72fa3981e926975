"""One client's WebSocket: what it is sent, and whether it still answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from tools.simulator.chunk import Chunk, Form
from tools.simulator.control import Subscriptions
from tools.simulator.draws import Bools, Int64s
from tools.simulator.encoding import frame, framed, spans

_MOST_MESSAGES_A_SECOND = 5
_PING, _PONG = 0x89, 0x8A
_ENOUGH_TAKEN = 64 << 10


class ChunkFrames:
    """A chunk's WebSocket frames, made once for all connections that want the same form."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self._frames: dict[Form, pa.BinaryArray] = {}

    def of(self, form: Form) -> pa.BinaryArray:
        if form not in self._frames:
            self._frames[form] = framed(self.chunk.render(form))
        return self._frames[form]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Messages to send now: `order` are positions in the chunk, `plain` where a simple run."""

    frames: ChunkFrames
    order: Int64s
    plain: bool

    def wanted(self, streams: Bools) -> Int64s:
        return self.order[streams[self.frames.chunk.stream[self.order]]]

    def bytes_of(self, form: Form, order: Int64s) -> memoryview:
        """Return the frames of the messages in `order` as one piece."""
        frames = self.frames.of(form)
        if not (self.plain and len(order) == len(self.order)):
            data, ends = spans(frames.take(pa.array(order)))
            return data[: ends[-1]]
        data, ends = spans(frames)
        return data[ends[order[0]] : ends[order[-1] + 1]]


@dataclass(slots=True)
class IncomingLimit:
    """At most five messages in any second."""

    most: int = _MOST_MESSAGES_A_SECOND
    _seen_s: deque[float] = field(default_factory=deque)

    def allows(self, now_s: float) -> bool:
        self._seen_s.append(now_s)
        while self._seen_s[0] <= now_s - 1.0:
            self._seen_s.popleft()
        return len(self._seen_s) <= self.most


@dataclass(slots=True)
class PongWatch:
    """Pings that wait for their pong. Pongs nobody asked for do not count."""

    within_s: float = 60.0
    _waiting: dict[bytes, float] = field(default_factory=dict)
    _last_ping_s: float | None = None

    def is_ping_due(self, now_s: float, every_s: float) -> bool:
        """Return whether it is time; the first call begins the first interval."""
        if self._last_ping_s is None:
            self._last_ping_s = now_s
        return now_s - self._last_ping_s >= every_s

    def pinged(self, payload: bytes, now_s: float) -> None:
        self._waiting[payload] = now_s
        self._last_ping_s = now_s

    def ponged(self, payload: bytes) -> bool:
        """Take note of a pong; True where it answers a ping, and all before it."""
        if payload not in self._waiting:
            return False
        for waiting in list(self._waiting):
            del self._waiting[waiting]
            if waiting == payload:
                return True
        return False

    def is_dead(self, now_s: float) -> bool:
        return any(now_s - since > self.within_s for since in self._waiting.values())


class Connection:
    """The sending side of a WebSocket. Frames are written whole, many at a time."""

    def __init__(
        self,
        number: int,
        request: web.Request,
        websocket: web.WebSocketResponse,
        writer: AbstractStreamWriter,
        subscriptions: Subscriptions,
    ) -> None:
        self.number = number
        self.peer = request.remote or ""
        self.subscriptions = subscriptions
        self.websocket = websocket
        self.frames_sent = 0
        self._writer = writer
        self._transport = request.transport
        self._wanted: Bools = np.zeros(0, dtype=np.bool_)
        self._wanted_version = -1

    def wanted(self, streams: Sequence[str]) -> Bools:
        """Return which of the session's streams it subscribed."""
        if self._wanted_version != self.subscriptions.version:
            self._wanted = np.array([s in self.subscriptions.streams for s in streams], np.bool_)
            self._wanted_version = self.subscriptions.version
        return self._wanted

    def send(self, stretch: Stretch, streams: Sequence[str]) -> Int64s:
        """Write what it wants of a stretch; return the positions written."""
        order = stretch.wanted(self.wanted(streams))
        if len(order) and self.is_open:
            self._write(stretch.bytes_of(self.subscriptions.form, order))
            self.frames_sent += len(order)
        return order

    def send_one(self, message: bytes) -> None:
        if self.is_open:
            self._write(frame(message))

    def ping(self, payload: bytes) -> None:
        self._control(_PING, payload)

    def pong(self, payload: bytes) -> None:
        self._control(_PONG, payload)

    def _control(self, opcode: int, payload: bytes) -> None:
        if self.is_open:
            self._write(bytes((opcode, len(payload))) + payload)

    def send_shutdown(self, now_us: int) -> None:
        form = self.subscriptions.form
        stamp = now_us if form.time_unit == "us" else now_us // 1_000
        raw = b'{"e":"serverShutdown","E":%d}' % stamp
        combined = b'{"stream":"!serverShutdown","data":%s}' % raw
        self.send_one(combined if form.combined else raw)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def drained(self) -> None:
        """Wait until the reader has taken enough of what was written, or is gone.

        No deadline here: a reader that takes nothing answers no ping either, and is cut for that.
        """
        if self._transport is None or self._transport.get_write_buffer_size() <= _ENOUGH_TAKEN:
            return
        # All who wait for one connection share a future in aiohttp: a task of its own keeps the
        # cancellation of one from reaching the others.
        draining = asyncio.create_task(self._drain())
        await asyncio.wait({draining})
        if draining.cancelled() or not draining.result():
            self.abort()

    async def _drain(self) -> bool:
        try:
            await self._writer.drain()
        except ConnectionError:  # aiohttp raises the plain one where the transport is gone
            return False
        return True

    def abort(self) -> None:
        """Cut the connection without a closing handshake, as a failing network does."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self, code: int, reason: str, *, timeout_s: float = 2.0) -> None:
        """Close with a handshake, or without where the client does not take part."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.websocket.close(code=code, message=reason.encode())
        except (TimeoutError, ConnectionError):
            self.abort()

    def _write(self, data: bytes | memoryview) -> None:
        if self._transport is not None:
            self._transport.write(data)
