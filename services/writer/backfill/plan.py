"""What to write of what was put off, and when. Pure.

Oldest first, while there is nothing better to do; but the log forgets, so that from half of its
retention a range is worked whatever the level, and from four fifths its topic is spared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from libs.degradation.level import Level
from libs.kafka.admin import Retention
from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.ledger import Ledger, Shed

URGENT_AT = 0.5
ALARM_AT = 0.8
# A commit and its file for so many records at most, found among so many positions at most.
PIECE_RECORDS = 100_000
PIECE_POSITIONS = 1_000_000
# At the guaranteed rate it takes little at a time: there is a reason why it should wait.
LEAST_PIECE_RECORDS = 10_000


class State(StrEnum):
    """What is done about an open range, and why no more."""

    NOT_PLACED = "NOT_PLACED"  # its partition is not read: the log may be another
    WAITING = "WAITING"  # for NORMAL
    YIELDING = "YIELDING"  # to live traffic
    WORKING = "WORKING"
    URGENT = "URGENT"  # half of retention is used: worked at any level
    ALARM = "ALARM"  # four fifths are: its topic is not shed any more


@dataclass(frozen=True, slots=True)
class LogSight:
    """A partition's log as last seen; `appended_ms` says when it took some of its positions."""

    start: int
    end: int
    bytes_per_position: float = 0.0
    appended_ms: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Debt:
    """An open range, and how much of its retention is used, 1.0 where the log may forget it."""

    position: TopicPartition
    shed: Shed
    age_s: float = 0.0
    used: float = 0.0

    @property
    def urgent(self) -> bool:
        return self.used >= URGENT_AT

    @property
    def alarming(self) -> bool:
        return self.used >= ALARM_AT


@dataclass(frozen=True, slots=True)
class Piece:
    """What is read and committed at once."""

    position: TopicPartition
    start: int
    end: int
    symbols: tuple[str, ...]
    at_ease: bool = True
    urgent: bool = False

    @property
    def most_records(self) -> int:
        return PIECE_RECORDS if self.at_ease else LEAST_PIECE_RECORDS


@dataclass(frozen=True, slots=True)
class Times:
    """The writer at this moment: it reads what is placed, of what it is assigned."""

    level: Level = Level.NORMAL
    busy: bool = False
    assigned: frozenset[TopicPartition] = frozenset()
    placed: frozenset[TopicPartition] = frozenset()


def debts_of(
    ledger: Ledger,
    sights: Mapping[TopicPartition, LogSight],
    retentions: Mapping[str, Retention],
    now_us: int,
) -> tuple[Debt, ...]:
    """Return every open range, the oldest first."""
    debts = (
        debt_of(position, shed, sights.get(position), retentions.get(position.topic), now_us)
        for position, book in ledger.partitions.items()
        for shed in book.shed
    )
    return tuple(sorted(debts, key=lambda debt: (-debt.age_s, debt.position, debt.shed.start)))


def debt_of(
    position: TopicPartition,
    shed: Shed,
    sight: LogSight | None,
    retention: Retention | None,
    now_us: int,
) -> Debt:
    """Say how near the log is to forget the range's first record.

    Where nobody has looked yet its age counts from when it was put off, which is later.
    """
    appended_ms = (sight.appended_ms if sight else {}).get(shed.start, shed.at_us // 1000)
    age_s = max(0.0, now_us / 1e6 - appended_ms / 1e3)
    used = used_of(age_s, bytes_after(shed, sight), retention) if retention else 0.0
    return Debt(position, shed, age_s, used)


def used_of(age_s: float, size_bytes: float, retention: Retention) -> float:
    """Return the larger share of the two retentions that is used."""
    by_time = age_s * 1000 / retention.ms if retention.ms else 0.0
    by_bytes = size_bytes / retention.bytes if retention.bytes else 0.0
    return max(by_time, by_bytes)


def bytes_after(shed: Shed, sight: LogSight | None) -> float:
    """Estimate the log's size from the range's start on: retention keeps the newest bytes."""
    if sight is None:
        return 0.0
    return max(0, sight.end - shed.start) * sight.bytes_per_position


def spared(debts: Iterable[Debt]) -> frozenset[str]:
    """Return the topics that may not be put off any more."""
    return frozenset(debt.position.topic for debt in debts if debt.alarming)


def state_of(debt: Debt, times: Times) -> State:
    if debt.position not in times.placed:
        return State.NOT_PLACED
    if debt.alarming:
        return State.ALARM
    if debt.urgent:
        return State.URGENT
    if times.level > Level.NORMAL:
        return State.WAITING
    return State.YIELDING if times.busy else State.WORKING


def next_piece(debts: Iterable[Debt], times: Times) -> Piece | None:
    """Choose what to work on: what is nearest to be forgotten, then what is oldest."""
    ours = [debt for debt in debts if debt.position in times.placed]
    at_ease = times.level is Level.NORMAL and not times.busy
    urgent = sorted((debt for debt in ours if debt.urgent), key=lambda debt: -debt.used)
    chosen = next(iter(urgent or (ours if at_ease else [])), None)
    if chosen is None:
        return None
    shed = chosen.shed
    end = min(shed.end, shed.start + PIECE_POSITIONS)
    return Piece(chosen.position, shed.start, end, shed.symbols, at_ease, chosen.urgent)


def forgotten(
    debts: Iterable[Debt], sights: Mapping[TopicPartition, LogSight]
) -> dict[TopicPartition, tuple[int, int]]:
    """Return of each partition the oldest open range, as far as the log has forgotten it."""
    found: dict[TopicPartition, tuple[int, int]] = {}
    for debt in debts:
        sight, shed = sights.get(debt.position), debt.shed
        if sight is not None and shed.start < sight.start:
            found.setdefault(debt.position, (shed.start, min(shed.end, sight.start)))
    return found


def without_past(
    sights: Mapping[TopicPartition, LogSight], starts: Mapping[TopicPartition, Iterable[int]]
) -> dict[TopicPartition, LogSight]:
    """Keep of what was seen what still matters: the dates of where ranges begin now."""
    return {
        at: replace(
            sight,
            appended_ms={
                start: sight.appended_ms[start]
                for start in starts[at]
                if start in sight.appended_ms
            },
        )
        for at, sight in sights.items()
        if at in starts
    }


@dataclass(frozen=True, slots=True)
class Limits:
    """Records read a second: in peace, and when retention leaves no choice."""

    records_per_s: float = 50_000.0
    least_records_per_s: float = 5_000.0


@dataclass(frozen=True, slots=True)
class Pace:
    """So many records a second at most: what was read says when the next may begin."""

    records_per_s: float
    least_records_per_s: float
    next_at_s: float = 0.0

    def after(self, records: int, *, at_ease: bool, now_s: float) -> Pace:
        rate = self.records_per_s if at_ease else self.least_records_per_s
        return replace(self, next_at_s=max(now_s, self.next_at_s) + records / rate)

    def resting(self, until_s: float) -> Pace:
        """Begin nothing before."""
        return replace(self, next_at_s=max(self.next_at_s, until_s))

    def wait_s(self, now_s: float) -> float:
        return max(0.0, self.next_at_s - now_s)
