"""Report collector: keeps the fleet as its streams tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from libs.degradation.messages import Acknowledgement, Report
from libs.market.clock import Clock
from libs.runtime.actor import MailboxActor
from services.governor.metrics import ATTACHED, REFUSALS
from services.governor.observing import fleet as fleets
from services.governor.observing.fleet import Fleet
from services.governor.published import Published

WAITING_MESSAGES = 1_024


@dataclass(frozen=True, slots=True)
class Reported:
    stream: int
    report: Report


@dataclass(frozen=True, slots=True)
class Acknowledged:
    process: str
    acknowledgement: Acknowledgement


@dataclass(frozen=True, slots=True)
class Closed:
    stream: int
    process: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Time has passed."""


Heard: TypeAlias = Reported | Acknowledged | Closed | Forget


class ReportCollector(MailboxActor[Heard]):
    """Publishes the fleet after each message."""

    def __init__(self, fleet: Published[Fleet], *, ttl_s: float, clock: Clock) -> None:
        super().__init__("report collector", capacity=WAITING_MESSAGES)
        self._fleet, self._ttl_s, self._clock = fleet, ttl_s, clock

    async def handle(self, message: Heard) -> None:
        fleet = self._taken_in(self._fleet.value, message)
        self._fleet.publish(fleet)
        if not isinstance(message, Reported | Acknowledged):
            ATTACHED.set(sum(member.attached for member in fleet.members.values()))

    def _taken_in(self, fleet: Fleet, message: Heard) -> Fleet:
        now_s = self._clock.monotonic_s()
        match message:
            case Reported(stream, report):
                return fleets.report(fleet, stream, report, now_s, self._clock.now_us())
            case Acknowledged(process, acknowledgement):
                REFUSALS.inc(bool(acknowledgement.refused_because))
                return fleets.acknowledge(fleet, process, acknowledgement)
            case Closed(stream, process):
                return fleets.close(fleet, stream, process, now_s)
            case Forget():
                return fleets.forget(fleet, self._ttl_s, now_s)
