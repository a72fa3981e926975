"""When lag crossed a threshold, to tell how long it took until a writer acted on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.degradation.messages import Acknowledgement
from services.governor.deciding.govern import Standing


@dataclass(frozen=True, slots=True)
class Crossing:
    """The first reading above the threshold, and the directive that followed from it."""

    group: str
    at_s: float
    epoch: int
    sequence: int

    def answered_by(self, said: Acknowledgement) -> bool:
        newer = (said.epoch, said.sequence) >= (self.epoch, self.sequence)
        return newer and not said.refused_because


def above_since(
    since_s: Mapping[str, float], before: Standing, after: Standing, now_s: float
) -> dict[str, float]:
    """Return since when each group's lag demands more than its level was."""
    return {
        name: since_s.get(name, now_s)
        for name, group in after.groups.items()
        if group.known
        and name in before.ladders
        and before.rules.lag.demanded(group.pressing) > before.ladders[name].level
    }


def crossing(since_s: Mapping[str, float], before: Standing, after: Standing) -> Crossing | None:
    """Return what the new orders answer, where a level has risen."""
    orders = after.orders
    if orders is None:
        return None
    risen = [
        name
        for name, ladder in after.ladders.items()
        if name in before.ladders and name in since_s and ladder.level > before.ladders[name].level
    ]
    first = min(risen, key=lambda name: since_s[name], default=None)
    return Crossing(first, since_s[first], orders.epoch, orders.sequence) if first else None
