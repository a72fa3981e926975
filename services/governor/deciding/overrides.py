"""An operator's level in place of the one by lag: with a reason, for a time. Pure."""

from __future__ import annotations

import msgspec

from libs.degradation.level import Level
from libs.market.errors import InvalidError

LONGEST_S = 86_400.0
LONGEST_REASON = 200


class Override(msgspec.Struct, frozen=True):
    """What was set, when, and for how long. Times are by the clock of who led then."""

    level: int
    reason: str
    set_at_us: int
    for_s: float

    @property
    def ends_at_us(self) -> int:
        return self.set_at_us + round(self.for_s * 1_000_000)

    def left_s(self, now_us: int) -> float:
        """Time left; never more than was given, whichever way the clock was set."""
        return min(self.for_s, (self.ends_at_us - now_us) / 1_000_000)


def make_override(level: Level, reason: str, for_s: float, now_us: int) -> Override:
    """Check what an operator asks for.

    Raises:
        InvalidError: there is no reason, or the time has no bound.
    """
    said = " ".join(reason.split())
    if not said or len(said) > LONGEST_REASON:
        text = f"reason must say why, in at most {LONGEST_REASON} characters"
        raise InvalidError(text, field="reason")
    if not 0 < for_s <= LONGEST_S:
        text = f"duration must be more than nothing and at most a day, not {for_s:g} s"
        raise InvalidError(text, field="duration")
    return Override(int(level), said, now_us, for_s)
