"""A log in the mind: partitions that grow, and what their group has decoded and committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from libs.degradation.messages import Partition
from services.governor.observing.lag import LogBounds, Look

TOPIC = "market.crypto.trades.binance"


@dataclass(slots=True)
class SimPartition:
    """Positions in records. `gauge` is what the group has committed of `decoded`, once a second.

    `seam` is where a new owner begins: the end of the last commit to the table. Records from
    `poison` on cannot be read: the partition is held there until it is gone.
    """

    place: Partition
    weight: float
    end: float = 0.0
    decoded: float = 0.0
    seam: float = 0.0
    gauge: int = 0
    owner: str | None = None
    poison: float | None = None

    @property
    def lag(self) -> float:
        return self.end - self.decoded

    @property
    def held(self) -> bool:
        return self.poison is not None and self.decoded >= self.poison

    @property
    def readable(self) -> float:
        """Records that may be decoded now."""
        return (self.end if self.poison is None else min(self.end, self.poison)) - self.decoded


@dataclass(slots=True)
class SimLog:
    partitions: list[SimPartition]
    hot: SimPartition | None = None
    most_hot: float = float("inf")
    _by_place: dict[Partition, SimPartition] = field(default_factory=dict)

    @classmethod
    def of(cls, weights: Iterable[float]) -> SimLog:
        shares = list(weights)
        parts = [
            SimPartition((TOPIC, number), share / sum(shares))
            for number, share in enumerate(shares)
        ]
        return cls(parts, _by_place={part.place: part for part in parts})

    @property
    def lag(self) -> float:
        """What waits to be decoded, and can be."""
        return sum(part.lag for part in self.partitions if not part.held)

    def produce(self, records: float) -> None:
        """Share records out by weight; where one partition is hot, it takes nine in ten.

        But no more than `most_hot`: of a large fleet's work no one writer could ever catch up.
        """
        if self.hot is not None:
            taken = min(0.9 * records, self.most_hot)
            self.hot.end += taken
            records -= taken
        for part in self.partitions:
            part.end += records * part.weight

    def look(self, now_s: float) -> Look:
        return Look(now_s, {part.place: LogBounds(0, int(part.end)) for part in self.partitions})

    def share_out(self, writers: list[str]) -> None:
        """Give each partition an owner; who gets one of another begins at the table's seam."""
        for number, part in enumerate(self.partitions):
            owner = writers[number % len(writers)] if writers else None
            if owner != part.owner:
                part.owner, part.decoded = owner, part.seam

    def of_owner(self, writer: str) -> list[SimPartition]:
        return [part for part in self.partitions if part.owner == writer]
