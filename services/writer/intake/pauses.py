"""Which placed partitions are not read, and what holds each.

aiokafka forgets pauses at each assignment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from libs.degradation.level import Level
from libs.degradation.policy import PriorityPolicy
from libs.kafka.fetching import fetch_a_share
from libs.market.clock import Clock
from services.writer import metrics
from services.writer.intake.positions import Partition, Positions
from services.writer.intake.throttle import LONGEST_PAUSE_S, Reading, Throttle, held_back

log = structlog.get_logger()
PAUSED_IN_VAIN = f"paused for {LONGEST_PAUSE_S:g} s in vain"


class Pauses:
    """The consumer's own book of pauses, brought to aiokafka again and again."""

    def __init__(self) -> None:
        self._by_cause: dict[str, frozenset[Partition]] = {}
        self._applied: frozenset[Partition] = frozenset()
        self._assignment = 0

    def hold(self, cause: str, partitions: Iterable[Partition]) -> None:
        """Hold these partitions for a cause, and no others for it."""
        self._by_cause[cause] = frozenset(partitions)

    @property
    def held(self) -> frozenset[Partition]:
        return frozenset().union(*self._by_cause.values())

    def resume(self, kafka: AIOKafkaConsumer, positions: Positions, partition: Partition) -> None:
        """Read a partition that was placed anew, unless something holds it.

        A poll is under way: what is resumed for a moment is delivered by it.
        """
        self._follow(positions)
        if partition in self.held:
            self._applied |= {partition}
            return
        self._applied -= {partition}
        kafka.resume(TopicPartition(*partition))

    def apply(self, kafka: AIOKafkaConsumer, positions: Positions) -> None:
        """Pause what is held, and resume what this book paused and nothing holds any more."""
        self._follow(positions)
        placed = positions.assigned - positions.unplaced
        wanted = self.held & placed
        with suppress(KafkaError):
            kafka.pause(*(TopicPartition(*p) for p in wanted - self._applied))
            kafka.resume(*(TopicPartition(*p) for p in (self._applied - wanted) & placed))
        self._applied = wanted

    def _follow(self, positions: Positions) -> None:
        if self._assignment != positions.assignment:
            self._assignment, self._applied = positions.assignment, frozenset()


class MemoryRestraint:
    """Holds fetching back while this process is short of memory."""

    def __init__(
        self,
        policy: PriorityPolicy,
        memory_level: Callable[[], Level],
        recovering: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._memory_level = memory_level
        self._recovering = recovering
        self._clock = clock
        self._throttle = Throttle()
        self._obeyed = Level.NORMAL
        self._obeying = asyncio.Event()

    @property
    def max_runs(self) -> int:
        return self._throttle.max_runs

    @property
    def reads_nothing(self) -> bool:
        return self._throttle.reading is Reading.NOTHING

    @property
    def bears(self) -> bool:
        """Whether it reads on, in the smallest batches, because no pause helped."""
        return self._throttle.bears

    def lessen(self, kafka: AIOKafkaConsumer) -> None:
        """Have no more fetched at a time than there is memory for."""
        fetch_a_share(kafka, self._throttle.fetch_share)

    def go_on(self) -> None:
        """End the pause: it helps nothing."""
        self._throttle = self._throttle.gone_on()

    async def taken_in(self) -> None:
        """Wait until what is fetched goes by the level of memory as it is now."""
        while self._obeyed is not self._memory_level():
            self._obeying.clear()
            await self._obeying.wait()

    def hold(self, pauses: Pauses, partitions: frozenset[Partition]) -> None:
        """Say which partitions memory holds now."""
        before = self._throttle
        now = self._throttle = before.after(self._memory_level(), self._clock.monotonic_s())
        pauses.hold("memory", held_back(now.reading, partitions, self._policy))
        if before.reading is not now.reading:
            self._tell(before, now)

    def obeyed(self) -> None:
        """Say that what was held last is paused by now."""
        self._obeyed = self._throttle.level
        self._obeying.set()

    def _tell(self, before: Throttle, now: Throttle) -> None:
        ran_out = now.reading is Reading.ALL and now.level >= Level.GRACEFUL
        in_vain = ran_out and not self._recovering()
        if now.reading is not Reading.ALL:
            metrics.MEMORY_PAUSES.labels(now.reading.value).inc()
        if in_vain:
            metrics.MEMORY_PAUSES_RUN_OUT.inc()
        say = log.error if in_vain else log.warning
        say(
            "memory_restrains",
            memory_level=now.level.name,
            reads=now.reading.value,
            read=before.reading.value,
            because=PAUSED_IN_VAIN if in_vain else "",
        )
