"""Pusher: one per stream; tells its process every change at once, and all again with each proof."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from libs.degradation.messages import Directive, Report
from libs.market.clock import Clock
from libs.runtime.faultpoint import reach
from services.governor.board import Board, Recorded
from services.governor.deciding.govern import Orders, directive
from services.governor.leading.following import not_leading

Send = Callable[[Directive], Awaitable[None]]


async def push(board: Board, first: Report, send: Send, clock: Clock) -> None:
    """Send directives to one process for as long as this governor leads.

    None before the controller has seen the process, none that is not recorded, and none without a
    proof within the TTL: a pause between the proof and here ends it.

    Raises:
        NotLeadingError: it leads no more.
    """
    orders = _Orders(board, first)
    while board.leadership.value.leading:
        recorded = board.recorded.value
        order = orders.by(recorded, clock.monotonic_s()) if recorded else None
        if order is not None:
            await reach("governor.before_push")
            await send(order)
        await board.recorded.changed_since(recorded, board.standing.value.ttl_s)
    raise not_leading(board.leadership.value)


class _Orders:
    """What one process is told: made anew where the orders change, else what it was told before."""

    def __init__(self, board: Board, first: Report) -> None:
        self._board, self._first = board, first
        self._orders: Orders | None = None
        self._told: Directive | None = None

    def by(self, recorded: Recorded, now_s: float) -> Directive | None:
        standing, orders = self._board.standing.value, recorded.orders
        heard_ms = recorded.proof.heard_ms.get(self._first.process)
        if orders is None or not heard_ms or not recorded.proof.holds(standing.ttl_s, now_s):
            return None
        if orders is not self._orders:
            self._orders, self._told = orders, directive(standing, orders, self._first)
        told = self._told
        if told is None:
            return None
        return replace(told, explanation=recorded.explanation, answers_ms=heard_ms)
