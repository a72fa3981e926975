"""The span of a directive, which that of each process that obeys it hangs on."""

from __future__ import annotations

from libs.degradation.spans import key_of
from libs.telemetry import tracing
from services.governor.deciding.govern import Orders

_TRACER = tracing.tracer("k2.governor")


def trace_directive(orders: Orders, because: str) -> None:
    key = key_of(orders.epoch, orders.sequence)
    attributes: dict[str, str | int] = {
        "k2.epoch": orders.epoch,
        "k2.sequence": orders.sequence,
        "k2.level": orders.level.name,
        "k2.because": because,
    }
    tracing.started_for(key, _TRACER, "directive", attributes).end()
