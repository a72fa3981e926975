"""Where each assigned partition stands: what may be taken from Kafka, and what is sought again.

Pure. aiokafka runs rebalance listeners while it already fetches, swallows their errors and
meanwhile delivers from the offset Kafka has committed, so what it delivers is believed only where
it starts at the position that the table gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

Partition = tuple[str, int]


class Verdict(Enum):
    """What becomes of a delivered batch."""

    TAKE = "take"
    DROP = "drop"  # its partition is not placed: it is paused, and will be sought
    SEEK = "seek"  # it starts elsewhere: drop it, and seek the expected position again


@dataclass(frozen=True, slots=True)
class Seek:
    """Read on from here."""

    offset: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Retention has overtaken the table: positions [start, end) are gone."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The table is ahead of the log: this is another log under the same name."""

    reason: str


Placement = Seek | Lost | Refuse


def place(partition: Partition, *, table_offset: int, log_start: int, log_end: int) -> Placement:
    """Decide where to read on, from the table's offset (0: never seen) and the log's bounds."""
    if table_offset > log_end:
        topic, number = partition
        return Refuse(
            f"{topic} partition {number} ends at offset {log_end}, but the table holds it up to"
            f" {table_offset}: this is another log under the same name"
        )
    if table_offset < log_start:
        return Lost(table_offset, log_start)
    return Seek(table_offset)


@dataclass(frozen=True, slots=True)
class Place:
    """A placed partition. `generation` is new with each placing, so that what is late is known."""

    generation: int
    start: int
    expected: int
    hole_at: int | None = None


class Positions:
    """The consumer's book: each assigned partition, and the position it expects once placed."""

    def __init__(self) -> None:
        self._places: dict[Partition, Place | None] = {}
        self._generation = 0
        self.assignment = 0

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Start over with these partitions, none of them placed."""
        self.assignment += 1
        self._places = dict.fromkeys(partitions)

    def revoke(self) -> None:
        """Hold nothing until the next assignment."""
        self.assign(())

    def place(self, partition: Partition, offset: int, *, assignment: int) -> bool:
        """Expect `offset` next. False where the answer came too late for this assignment."""
        if assignment != self.assignment or partition not in self._places:
            return False
        self._generation += 1
        self._places[partition] = Place(self._generation, offset, offset)
        return True

    def unplace(self, partitions: Iterable[Partition]) -> frozenset[Partition]:
        """Forget positions, until they are placed again. Returns those that had one."""
        forgotten = frozenset(p for p in partitions if self._places.get(p) is not None)
        self._places.update(dict.fromkeys(forgotten))
        return forgotten

    def rewind(self, partition: Partition, generation: int, offset: int) -> bool:
        """Expect an earlier offset again, of the same placing. False where it is another by now."""
        place = self._places.get(partition)
        if place is None or place.generation != generation or offset > place.expected:
            return False
        self._places[partition] = replace(place, expected=offset, hole_at=None)
        return True

    def fence(self, generations: Mapping[Partition, int]) -> frozenset[Partition]:
        """Forget the positions that are still of these generations."""
        return self.unplace(p for p, g in generations.items() if self.generation(p) == g)

    def judge(self, partition: Partition, *, first: int, following: int) -> Verdict:
        """Judge a batch that starts at offset `first` and after which comes `following`.

        A start past the expected position is a foreign position the first time, and a hole in the
        log (compaction, a transaction's marker) when the same start comes again after the seek.
        """
        place = self._places.get(partition)
        if place is None:
            return Verdict.DROP
        if first == place.expected or first == place.hole_at:
            self._places[partition] = replace(place, expected=following, hole_at=None)
            return Verdict.TAKE
        hole_at = first if first > place.expected else None
        self._places[partition] = replace(place, hole_at=hole_at)
        return Verdict.SEEK

    def again(self) -> dict[Partition, int]:
        """Return where each placed partition is to be sought again; no hole is known from there."""
        placed = {p: replace(place, hole_at=None) for p, place in self._places.items() if place}
        self._places.update(placed)
        return {partition: place.expected for partition, place in placed.items()}

    def expected(self, partition: Partition) -> int | None:
        place = self._places.get(partition)
        return None if place is None else place.expected

    def placed_at(self, partition: Partition) -> int | None:
        """Return the offset that the table gave when the partition was placed."""
        place = self._places.get(partition)
        return None if place is None else place.start

    def generation(self, partition: Partition) -> int | None:
        place = self._places.get(partition)
        return None if place is None else place.generation

    @property
    def assigned(self) -> frozenset[Partition]:
        return frozenset(self._places)

    @property
    def unplaced(self) -> frozenset[Partition]:
        return frozenset(p for p, place in self._places.items() if place is None)
