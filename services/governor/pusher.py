"""Pusher: one per stream; tells its process every change at once, and all again before the TTL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from libs.degradation.messages import Directive, Report
from libs.market.clock import Clock
from services.governor.controller import Board
from services.governor.explain import explain
from services.governor.govern import directive

Send = Callable[[Directive], Awaitable[None]]

# Two of three may be lost before a directive runs out.
PUSHES_PER_TTL = 3


async def push(
    board: Board,
    first: Report,
    send: Send,
    clock: Clock,
) -> None:
    """Send directives to one process, for ever; none before the controller has seen it."""
    while True:
        orders = board.orders.value
        standing = board.standing.value
        order = directive(standing, orders, first) if orders else None
        if order is not None:
            because = explain(standing, board.fleet.value, clock.monotonic_s())
            await send(replace(order, explanation=because))
        await board.orders.changed_since(orders, standing.ttl_s / PUSHES_PER_TTL)
