"""How much may be asked of the exchange's REST API. Pure: times are passed in, in seconds UTC.

Binance counts weight by address and clock minute and tells the sum with each answer; what others
on this address use counts too. Who goes on after a 429 is banned (418) for minutes to days.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

HISTORICAL_TRADES_WEIGHT = 25
MINUTE_S = 60
# Where a refusal does not say how long.
REFUSED_FOR_S = 60.0
# Where it says 0, as for what is left of a second.
LEAST_REFUSED_S = 1.0


@dataclass(frozen=True, slots=True)
class Budget:
    """Weight used of this minute, and until when nothing may be asked at all."""

    most: int
    minute: int = -1
    used: int = 0
    refused_until_s: float = 0.0
    refused_with: int = 0

    def spent(self, used: int | None, now_s: float) -> Budget:
        """Count a request in: as the exchange says, else by its known weight."""
        minute = int(now_s // MINUTE_S)
        before = self.used if minute == self.minute else 0
        counted = before + HISTORICAL_TRADES_WEIGHT if used is None else used
        return replace(self, minute=minute, used=counted)

    def refused(self, status: int, retry_after_s: float | None, now_s: float) -> Budget:
        wait_s = REFUSED_FOR_S if retry_after_s is None else max(retry_after_s, LEAST_REFUSED_S)
        return replace(self, refused_until_s=now_s + wait_s, refused_with=status)

    def wait_s(self, now_s: float) -> float:
        """How long the next request must wait; 0 where it may go."""
        if now_s < self.refused_until_s:
            return self.refused_until_s - now_s
        is_spent = self.used + HISTORICAL_TRADES_WEIGHT > self.most
        if is_spent and int(now_s // MINUTE_S) == self.minute:
            return (self.minute + 1) * MINUTE_S - now_s
        return 0.0

    def because(self, now_s: float) -> str:
        """Say why the next request must wait; nothing where it need not."""
        if now_s < self.refused_until_s:
            return f"the exchange answered {self.refused_with}: asking again later, as it says"
        if self.wait_s(now_s):
            return f"{self.used} of {self.most} request weight of this minute is used"
        return ""
