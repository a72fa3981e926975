"""The simulator's own doors: its page, its state, and what a test may do to it."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
from aiohttp import web

from libs.market.clock import Clock
from tools.simulator.connection import Connection
from tools.simulator.faults import Fault
from tools.simulator.player import Player
from tools.simulator.weights import WeightBudget

_PAGE = Path(__file__).with_name("page.html")


class Controls:
    """Handlers of / and /control. None of them is charged."""

    def __init__(self, player: Player, budget: WeightBudget, clock: Clock) -> None:
        self._player = player
        self._budget = budget
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._page),
            web.get("/control/session", self._session),
            web.get("/control/state", self._state),
            web.get("/control/faults", self._faults),
            web.post("/control/fault", self._fault),
            web.post("/control/start", self._start),
            web.post("/control/pause", self._pause),
        ]

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=_PAGE.read_bytes(), content_type="text/html", charset="utf-8")

    async def _session(self, _: web.Request) -> web.StreamResponse:
        return _answer(self._session_state())

    async def _state(self, _: web.Request) -> web.StreamResponse:
        """Answer with what the page shows: the session's state and the exchange's."""
        player = self._player
        return _answer(
            {
                **self._session_state(),
                "streams": player.session.streams[:2_000],
                "pace": "max" if math.isinf(player.options.pace) else player.options.pace,
                "hold": player.options.hold,
                "started": player.started,
                "paused": player.paused,
                "playing": player.playing,
                "used_weight": self._budget.used(self._clock.now_us() / 1e6),
                "weight_limit": self._budget.limit,
                "connections": [_connection(c) for c in player.connections.values()],
                "faults_injected": len(player.injector.plan.injected),
                "faults_waiting": len(player.injector.plan.waiting),
            }
        )

    async def _faults(self, _: web.Request) -> web.StreamResponse:
        plan = self._player.injector.plan
        return _answer({"injected": plan.injected, "waiting": plan.waiting})

    async def _fault(self, request: web.Request) -> web.StreamResponse:
        try:
            fault = msgspec.json.decode(await request.read(), type=Fault)
        except msgspec.MsgspecError as error:
            return _answer({"error": f"that is no fault: {error}"}, status=400)
        self._player.injector.request(fault, self._player.history.passed)
        return _answer({"accepted": fault})

    async def _start(self, _: web.Request) -> web.StreamResponse:
        self._player.start()
        return _answer({"started": True, "paused": False})

    async def _pause(self, _: web.Request) -> web.StreamResponse:
        self._player.pause()
        return _answer({"paused": True})

    def _session_state(self) -> dict[str, object]:
        player = self._player
        first_ns, last_ns = player.session.span_ns
        return {
            "trades": player.history.passed,
            "symbols": player.history.totals,
            "sent": player.trades_sent,
            "done": player.done,
            "progress": 1.0
            if player.done
            else (player.session_ns - first_ns) / max(1, last_ns - first_ns),
            "session_time_ns": player.session_ns,
        }


def _connection(connection: Connection) -> dict[str, object]:
    return {
        "number": connection.number,
        "peer": connection.peer,
        "streams": len(connection.subscriptions.streams),
        "combined": connection.subscriptions.combined,
        "time_unit": connection.subscriptions.time_unit,
        "frames_sent": connection.frames_sent,
    }


def _answer(body: object, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )
