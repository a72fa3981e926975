"""What the governor's actors publish: each field has one writer, and anyone may read."""

from __future__ import annotations

from dataclasses import dataclass

from services.governor.deciding.crossings import Crossing
from services.governor.deciding.govern import Orders, Standing
from services.governor.deciding.overrides import Override
from services.governor.leading.leadership import Leadership, Proof
from services.governor.leading.snapshots import Restored
from services.governor.observing.fleet import Fleet
from services.governor.published import Published


@dataclass(frozen=True, slots=True)
class Term:
    """The time that this governor leads. `epoch` grows in it where the topic was made anew."""

    first_epoch: int
    epoch: int
    restored: Restored


@dataclass(frozen=True, slots=True)
class Recorded:
    """Orders that the topic holds: only they are pushed. None: led, and nothing to order yet."""

    orders: Orders | None
    proof: Proof
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """The fleet is the collector's, standing and crossing are the controller's.

    All else is the recorder's.
    """

    fleet: Published[Fleet]
    standing: Published[Standing]
    crossing: Published[Crossing | None]
    leadership: Published[Leadership]
    term: Published[Term | None]
    override: Published[Override | None]
    recorded: Published[Recorded | None]

    @classmethod
    def blank(cls, standing: Standing, leadership: Leadership) -> Board:
        """Nothing is known yet."""
        return cls(
            fleet=Published(Fleet()),
            standing=Published(standing),
            crossing=Published(None),
            leadership=Published(leadership),
            term=Published(None),
            override=Published(None),
            recorded=Published(None),
        )

    def directs(self, ttl_s: float, now_s: float) -> bool:
        """Say whether this governor leads, was proven to within a TTL, and has orders."""
        recorded = self.recorded.value
        return (
            recorded is not None
            and recorded.orders is not None
            and recorded.proof.holds(ttl_s, now_s)
        )
