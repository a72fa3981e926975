"""Controller: turns each sample into levels, and publishes what is ordered."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from libs.market.clock import Clock
from libs.runtime.actor import MailboxActor
from services.governor.explain import explain
from services.governor.fleet import Fleet
from services.governor.govern import Orders, Standing, govern
from services.governor.metrics import LAG, LAG_KNOWN, LEVEL
from services.governor.published import Published
from services.governor.sampler import Sample

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Board:
    """What the actors publish: each field has one writer, and anyone may read."""

    fleet: Published[Fleet]
    standing: Published[Standing]
    orders: Published[Orders | None]


class Controller(MailboxActor[Sample]):
    def __init__(self, board: Board, clock: Clock) -> None:
        super().__init__("controller", capacity=4)
        self._board, self._clock = board, clock

    async def handle(self, message: Sample) -> None:
        before, fleet = self._board.standing.value, self._board.fleet.value
        now_s = self._clock.monotonic_s()
        standing = govern(before, message, fleet, now_s, self._clock.now_us())
        self._board.standing.publish(standing)
        _measure(standing)
        if standing.orders != before.orders:
            self._log_change(before.orders, standing, explain(standing, fleet, now_s))
            self._board.orders.publish(standing.orders)

    def _log_change(self, before: Orders | None, standing: Standing, because: str) -> None:
        after = standing.orders
        if after is not None and (before is None or before.level is not after.level):
            log.info(
                "level",
                level=after.level.name,
                was=before.level.name if before else None,
                epoch=after.epoch,
                sequence=after.sequence,
                because=because,
            )


def _measure(standing: Standing) -> None:
    for name, group in standing.groups.items():
        LAG.labels(name).set(group.lag)
        LAG_KNOWN.labels(name).set(group.known)
    if standing.orders is not None:
        LEVEL.set(standing.orders.level)
