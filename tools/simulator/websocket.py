"""The WebSocket doors: /ws/<streams> and /stream?streams=, with the exchange's limits."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import WSMessage, WSMsgType, web

from libs.market.clock import Clock
from tools.simulator.chunk import TimeUnit
from tools.simulator.connection import Connection, IncomingLimit, PongWatch
from tools.simulator.control import MOST_STREAMS, Subscriptions
from tools.simulator.player import Player

_POLICY_VIOLATION, _GOING_AWAY = 1008, 1001
_ATTEMPTS_WINDOW_S = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The exchange's limits, at its own values; shorten them to meet them sooner."""

    ping_every_s: float = 20.0
    pong_within_s: float = 60.0
    connection_lives_s: float = 86_400.0
    attempts_in_5_min: int = 300
    weight_a_minute: int = 6_000


class WebSocketDoors:
    """Accepts connections and keeps each until it ends."""

    def __init__(self, player: Player, limits: Limits, clock: Clock) -> None:
        self._player = player
        self._limits = limits
        self._clock = clock
        self._attempts: dict[str, deque[float]] = {}
        self._opened = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/ws", self._raw),
            web.get("/ws/{streams:.*}", self._raw),
            web.get("/stream", self._combined),
        ]

    async def _raw(self, request: web.Request) -> web.StreamResponse:
        return await self._accept(request, request.match_info.get("streams", ""), combined=False)

    async def _combined(self, request: web.Request) -> web.StreamResponse:
        return await self._accept(request, request.query.get("streams", ""), combined=True)

    async def _accept(
        self, request: web.Request, streams: str, *, combined: bool
    ) -> web.StreamResponse:
        if not self._may_connect(request.remote or ""):
            return web.Response(status=429, text="too many connection attempts")
        unit = _time_unit(request)
        subscriptions = Subscriptions.of(streams.split("/"), combined=combined, time_unit=unit)
        if len(subscriptions.streams) > MOST_STREAMS:
            return web.Response(status=400, text=f"at most {MOST_STREAMS} streams")
        websocket = web.WebSocketResponse(autoping=False, compress=False, timeout=2.0)
        writer = await websocket.prepare(request)
        if writer is None:
            return websocket
        self._opened += 1
        connection = Connection(self._opened, request, websocket, writer, subscriptions)
        await self._serve(connection)
        return websocket

    def _may_connect(self, client: str) -> bool:
        now_s = self._clock.monotonic_s()
        attempts = self._attempts.setdefault(client, deque())
        while attempts and attempts[0] < now_s - _ATTEMPTS_WINDOW_S:
            attempts.popleft()
        attempts.append(now_s)
        return len(attempts) <= self._limits.attempts_in_5_min

    async def _serve(self, connection: Connection) -> None:
        connections = self._player.connections
        connections[connection.number] = connection
        self._player.changed()
        pongs = PongWatch(self._limits.pong_within_s)
        watching = asyncio.create_task(self._watch(connection, pongs))
        try:
            await self._read(connection, pongs)
        finally:
            watching.cancel()
            del connections[connection.number]
            self._player.changed()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self, connection: Connection, pongs: PongWatch) -> None:
        """Ping, cut who does not answer, and close when the connection has lived long enough."""
        ends_s = self._clock.monotonic_s() + self._limits.connection_lives_s
        while (now_s := self._clock.monotonic_s()) < ends_s:
            if pongs.is_dead(now_s):
                connection.abort()
                return
            if pongs.is_ping_due(now_s, self._limits.ping_every_s):
                payload = str(self._clock.now_us() // 1_000).encode()
                pongs.pinged(payload, now_s)
                connection.ping(payload)
            await asyncio.sleep(min(self._pause_s, max(0.0, ends_s - now_s)))
        await connection.close(_GOING_AWAY, "24 hours are over")

    @property
    def _pause_s(self) -> float:
        return min(self._limits.ping_every_s, self._limits.pong_within_s, 4.0) / 4

    async def _read(self, connection: Connection, pongs: PongWatch) -> None:
        incoming = IncomingLimit()
        async for message in connection.websocket:
            is_answer = message.type is WSMsgType.PONG and pongs.ponged(bytes(message.data))
            if not is_answer and not incoming.allows(self._clock.monotonic_s()):
                await connection.close(_POLICY_VIOLATION, "Too many requests")
                return
            self._handle(connection, message)

    def _handle(self, connection: Connection, message: WSMessage) -> None:
        if message.type is WSMsgType.PING:
            connection.pong(bytes(message.data))
        elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data = message.data
            request = data.encode() if isinstance(data, str) else bytes(data)
            connection.send_one(connection.subscriptions.answer(request))
            self._player.changed()


def _time_unit(request: web.Request) -> TimeUnit:
    return "us" if request.query.get("timeUnit", "").upper() == "MICROSECOND" else "ms"
