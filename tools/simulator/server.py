"""The simulated exchange as one server: WebSocket streams, REST, its page and its controls."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from aiohttp import web

from libs.market.clock import Clock, SystemClock
from libs.market.errors import UnavailableError
from tools.simulator.connection import Connection
from tools.simulator.controls import Controls
from tools.simulator.faults import Fault, FaultPlan
from tools.simulator.injector import Injector
from tools.simulator.player import Player, PlayOptions
from tools.simulator.rest import RestApi
from tools.simulator.session import Session
from tools.simulator.websocket import Limits, WebSocketDoors
from tools.simulator.weights import WeightBudget

_GOING_AWAY = 1001
_STOP_TIMEOUT_S = 5.0
# 1024 stream names fit.
_LONGEST_REQUEST_LINE = 64 << 10


class Exchange:
    """One simulated exchange, serving while inside its context."""

    def __init__(
        self,
        session: Session,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        play: PlayOptions | None = None,
        limits: Limits | None = None,
        faults: tuple[Fault, ...] = (),
        clock: Clock | None = None,
    ) -> None:
        self._where = host, port
        self._clock = clock or SystemClock()
        limits = limits or Limits()
        connections: dict[int, Connection] = {}
        budget = WeightBudget(limits.weight_a_minute)
        injector = Injector(FaultPlan(list(faults)), connections, budget, self._clock)
        self.player = Player(session, play or PlayOptions(), connections, injector, self._clock)
        self._doors = WebSocketDoors(self.player, limits, self._clock)
        self._rest = RestApi(self.player, budget, self._clock)
        self._controls = Controls(self.player, budget, self._clock)
        self._runner: web.AppRunner | None = None
        self._playing: asyncio.Task[None] | None = None
        self.address = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([*self._doors.routes(), *self._rest.routes(), *self._controls.routes()])
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=_STOP_TIMEOUT_S,
            max_line_size=_LONGEST_REQUEST_LINE,
        )
        await self._runner.setup()
        self.address = await _listen(self._runner, *self._where)
        self._playing = asyncio.create_task(self.player.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Announce the end to who is connected, as the exchange does, then end."""
        if self._playing is not None:
            self._playing.cancel()
            with suppress(asyncio.CancelledError):
                await self._playing
        self.player.injector.close()
        for connection in list(self.player.connections.values()):
            connection.send_shutdown(self._clock.now_us())
        await asyncio.gather(
            *(c.close(_GOING_AWAY, "server shutdown") for c in self.player.connections.values())
        )
        if self._runner is not None:
            await self._runner.cleanup()

    async def played(self) -> None:
        """Wait for the end of the session; raises what stopped it early."""
        if self._playing is not None:
            await asyncio.shield(self._playing)


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    """Listen and return the address; port 0 takes a free one.

    Raises:
        UnavailableError: the port is taken.
    """
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        text = f"port {port} on {host} cannot be used ({error.strerror}); give another with --port"
        raise UnavailableError(text, host=host, port=port) from error
    return f"{host}:{runner.addresses[0][1]}"
