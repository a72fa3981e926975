"""Controller: turns each sample into levels, and publishes what is ordered."""

from __future__ import annotations

from dataclasses import replace

import structlog

from libs.degradation.level import Cause
from libs.market.clock import Clock
from libs.runtime.actor import MailboxActor
from services.governor.board import Board
from services.governor.deciding.crossings import above_since, crossing
from services.governor.deciding.explain import explain
from services.governor.deciding.govern import Orders, Standing, govern
from services.governor.directing.tracing import trace_directive
from services.governor.leading.snapshots import overridden, taken_over
from services.governor.metrics import (
    CAUSE,
    DECODED,
    DESIRED,
    HELD_LAG,
    LAG,
    LAG_KNOWN,
    LEVEL,
    PRODUCED,
)
from services.governor.observing.sampler import Sample

log = structlog.get_logger()


class Controller(MailboxActor[Sample]):
    """Decides while this governor leads; else only shows the lag it reads."""

    def __init__(self, board: Board, clock: Clock) -> None:
        super().__init__("controller", capacity=4)
        self._board, self._clock = board, clock
        self._blank = board.standing.value
        self._first_epoch: int | None = None
        self._above_since_s: dict[str, float] = {}

    async def handle(self, message: Sample) -> None:
        now_s, now_us = self._clock.monotonic_s(), self._clock.now_us()
        before, fleet = self._before(now_s, now_us), self._board.fleet.value
        if before is None:
            self._board.standing.publish(replace(self._blank, groups=dict(message)))
            return
        standing = govern(before, message, fleet, now_s, now_us)
        self._note_crossing(before, standing, now_s)
        self._board.standing.publish(standing)
        _measure(standing)
        if standing.orders != before.orders:
            self._log_change(before.orders, standing, explain(standing, fleet, now_s))

    def _before(self, now_s: float, now_us: int) -> Standing | None:
        """Return where to go on from; None while another governor leads."""
        term = self._board.term.value
        if term is None:
            self._first_epoch = None
            return None
        if term.first_epoch != self._first_epoch:
            self._first_epoch = term.first_epoch
            standing = taken_over(
                self._blank, term.epoch, term.restored, now_s=now_s, now_us=now_us
            )
        else:
            standing = replace(self._board.standing.value, epoch=term.epoch)
        return overridden(standing, self._board.override.value, now_s=now_s, now_us=now_us)

    def _note_crossing(self, before: Standing, after: Standing, now_s: float) -> None:
        self._above_since_s = above_since(self._above_since_s, before, after, now_s)
        crossed = crossing(self._above_since_s, before, after)
        if crossed is not None:
            self._board.crossing.publish(crossed)

    def _log_change(self, before: Orders | None, standing: Standing, because: str) -> None:
        after = standing.orders
        if after is not None and after is not before:
            trace_directive(after, because)
        if after is not None and (before is None or before.level is not after.level):
            log.info(
                # `level` is the log's own word.
                "level_changed",
                to=after.level.name,
                was=before.level.name if before else None,
                epoch=after.epoch,
                sequence=after.sequence,
                because=because,
            )


def _measure(standing: Standing) -> None:
    for name, group in standing.groups.items():
        LAG.labels(name).set(group.lag)
        HELD_LAG.labels(name).set(group.held_lag)
        LAG_KNOWN.labels(name).set(group.known)
    for name, scale in standing.scales.items():
        DESIRED.labels(name).set(scale.desired)
        if rates := standing.flows[name].rates:
            PRODUCED.labels(name).set(rates.produced)
            DECODED.labels(name).set(rates.decoded)
    if standing.orders is not None:
        LEVEL.set(standing.orders.level)
        for cause in Cause:
            CAUSE.labels(cause).set(cause in standing.orders.causes)
