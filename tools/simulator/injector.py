"""Does what faults ask for, and records it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from libs.market.clock import Clock
from tools.simulator.chunk import TradeColumns
from tools.simulator.connection import Connection
from tools.simulator.draws import Int64s
from tools.simulator.faults import MALFORMED, Fault, FaultPlan, Injected, alter, at
from tools.simulator.weights import WeightBudget

_GOING_AWAY = 1001


class Injector:
    """Faults meet connections here. `passed` is how many trades of the session have passed."""

    def __init__(
        self,
        plan: FaultPlan,
        connections: dict[int, Connection],
        budget: WeightBudget,
        clock: Clock,
    ) -> None:
        self.plan = plan
        self._connections = connections
        self._budget = budget
        self._clock = clock
        self._altering: list[Fault] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def inject_due(self, passed: int) -> None:
        """Do what is due, on the session's own path: a delay holds it up."""
        for fault in self.plan.take_due(passed):
            if fault.kind == "delay":
                self._record(fault, passed, detail=f"{fault.seconds:g} s")
                await asyncio.sleep(fault.seconds)
            else:
                self._inject(fault, passed)

    def request(self, fault: Fault, passed: int) -> None:
        """Take a wish while the session plays, or stands still: what is due is done at once."""
        if fault.kind == "delay" or fault.at > passed:
            self.plan.add(fault)
            return
        self._inject(fault, passed)
        if fault.every:
            self.plan.add(at(fault, passed + fault.every))

    def close(self) -> None:
        """Forget the closes that wait for their time."""
        for task in self._closing:
            task.cancel()

    def _inject(self, fault: Fault, passed: int) -> None:
        if fault.kind in ("skip", "duplicate"):
            # From the next trade on.
            self._altering.append(fault)
        elif fault.kind in ("rate_limit", "ban"):
            self._refuse_rest(fault, passed)
        else:
            self._on_connections(fault, passed)

    @property
    def is_altering(self) -> bool:
        return bool(self._altering)

    def altered(
        self, order: Int64s, trades: TradeColumns, symbols: Sequence[str], passed: int
    ) -> Int64s:
        """Return the positions to send of a stretch, with skips left out and duplicates twice."""
        unfinished = []
        for fault in self._altering:
            result = alter(fault, order, trades, symbols)
            order = result.order
            if len(result.touched):
                self._record_trades(fault, passed, result.touched, trades, symbols)
            if result.missing:
                unfinished.append(msgspec.structs.replace(fault, count=result.missing))
        self._altering = unfinished
        return order

    def _on_connections(self, fault: Fault, passed: int) -> None:
        chosen = [
            c for c in self._connections.values() if fault.connection in (0, c.number) and c.is_open
        ]
        numbers = tuple(c.number for c in chosen)
        self._record(fault, passed, numbers, detail=self._detail(fault))
        for connection in chosen:
            self._strike(fault, connection)

    def _strike(self, fault: Fault, connection: Connection) -> None:
        if fault.kind == "drop":
            connection.abort()
        elif fault.kind == "shutdown":
            connection.send_shutdown(self._clock.now_us())
            self._close_after(fault.seconds, connection)
        else:
            for index in range(fault.count):
                connection.send_one(MALFORMED[index % len(MALFORMED)])

    def _close_after(self, seconds: float, connection: Connection) -> None:
        async def close() -> None:
            await asyncio.sleep(seconds)
            await connection.close(_GOING_AWAY, "server shutdown")

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _refuse_rest(self, fault: Fault, passed: int) -> None:
        status = 429 if fault.kind == "rate_limit" else 418
        self._budget.refuse(status, self._clock.now_us() / 1e6 + fault.seconds)
        self._record(fault, passed, detail=f"{status} for {fault.seconds:g} s")

    def _record_trades(
        self,
        fault: Fault,
        passed: int,
        rows: Int64s,
        trades: TradeColumns,
        symbols: Sequence[str],
    ) -> None:
        ids = zip(trades.symbol[rows].tolist(), trades.trade_id[rows].tolist(), strict=True)
        touched = tuple((symbols[symbol], trade_id) for symbol, trade_id in ids)
        self.plan.record(Injected(0, fault.kind, passed, trades=touched))

    def _record(
        self, fault: Fault, passed: int, connections: tuple[int, ...] = (), *, detail: str
    ) -> None:
        self.plan.record(Injected(0, fault.kind, passed, connections, detail=detail))

    @staticmethod
    def _detail(fault: Fault) -> str:
        if fault.kind == "malformed":
            return f"{fault.count} frames"
        return f"closed after {fault.seconds:g} s" if fault.kind == "shutdown" else ""
