"""How much may be fetched while this process is short of memory. Pure.

Lag never stops consumption. Memory may, for a minute at most: what is buffered is committed
meanwhile and its memory given back. Where that does not help it goes on with the smallest batches,
for a pause that helps nothing only lets the log grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from libs.degradation.level import Level
from libs.degradation.policy import PriorityPolicy
from libs.kafka.topics import exchange_of
from libs.market.bucket import bucket_of
from services.writer.intake.positions import Partition

LONGEST_PAUSE_S = 60.0
# Runs of some thousand records that one poll takes.
RUNS: Mapping[Level, int] = {Level.NORMAL: 8, Level.SOFT: 4, Level.GRACEFUL: 2}
FEWEST_RUNS = 1


class Reading(Enum):
    """What is read on."""

    ALL = "all"
    CRITICAL = "critical"  # partitions that hold a critical symbol, or may hold one
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Throttle:
    """What memory holds back. A level whose pause ran out is `borne` until memory has recovered."""

    level: Level = Level.NORMAL
    since_s: float | None = None
    borne: Level = Level.NORMAL

    def after(self, level: Level, now_s: float) -> Throttle:
        """Take in the level of memory as it is now."""
        if level < Level.GRACEFUL:
            return Throttle(level)
        if self.since_s is None:
            since_s = now_s if level > self.borne else None
            return Throttle(level, since_s, self.borne)
        if now_s - self.since_s >= LONGEST_PAUSE_S:
            return replace(self, level=level).gone_on()
        return replace(self, level=level)

    def gone_on(self) -> Throttle:
        """End the pause: it helps nothing."""
        return Throttle(self.level, None, max(self.level, self.borne))

    @property
    def bears(self) -> bool:
        """Say whether it reads on although memory is as short as when it would read nothing."""
        return self.since_s is None and min(self.level, self.borne) >= Level.AGGRESSIVE

    @property
    def reading(self) -> Reading:
        if self.since_s is None:
            return Reading.ALL
        return Reading.CRITICAL if self.level is Level.GRACEFUL else Reading.NOTHING

    @property
    def fetch_share(self) -> int:
        """Of what is asked for at a time in peace, one so-manyth."""
        return RUNS[Level.NORMAL] // self.max_runs

    @property
    def max_runs(self) -> int:
        return RUNS.get(self.level, FEWEST_RUNS)


def held_back(
    reading: Reading, partitions: Iterable[Partition], policy: PriorityPolicy
) -> frozenset[Partition]:
    """Return those of the partitions that are not to be read."""
    if reading is Reading.ALL:
        return frozenset()
    if reading is Reading.NOTHING:
        return frozenset(partitions)
    return frozenset(p for p in partitions if not may_be_critical(p, policy))


def may_be_critical(partition: Partition, policy: PriorityPolicy) -> bool:
    topic, number = partition
    symbols = policy.critical_symbols(exchange_of(topic))
    return symbols is None or any(bucket_of(symbol) == number for symbol in symbols)
