"""The consumer's part in holding partitions: it goes back, pauses, probes, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.kafka.admin import Retention
from libs.kafka.unreadable import UnreadableBatchError
from libs.market.clock import Clock
from libs.market.errors import UnavailableError
from libs.runtime.actor import answer
from services.writer import metrics
from services.writer.intake import holds as rules
from services.writer.intake.holds import Hold, Holds, Stage
from services.writer.intake.outbox import Outbox
from services.writer.intake.pauses import Pauses
from services.writer.intake.positions import Partition, Positions
from services.writer.messages import Accept, Held, RawChunk, Released, Resume

log = structlog.get_logger()

CAUSE = "burst"
RETENTION_TIMEOUT_S = 10.0

AskRetention = Callable[[Iterable[str]], Awaitable[Mapping[str, Retention]]]
EndOf = Callable[[Partition], int | None]


@dataclass(frozen=True, slots=True)
class Holding:
    """What holding needs from outside."""

    ask_retention: AskRetention
    clock: Clock
    probe_every_s: float = 30.0


class Holder:
    """The holds of one consumer."""

    def __init__(self, holding: Holding, positions: Positions, outbox: Outbox) -> None:
        self._clock = holding.clock
        self._ask_retention = holding.ask_retention
        self._probe_every_s = holding.probe_every_s
        self._positions = positions
        self._outbox = outbox
        self._holds: Holds = {}

    @property
    def holds(self) -> Mapping[Partition, Hold]:
        """Those of the placings that are in force."""
        generations = {p: self._positions.generation(p) for p in self._holds}
        return rules.current(self._holds, generations)

    def obey(self, message: Held | Released | Resume, kafka: AIOKafkaConsumer) -> None:
        match message:
            case Held():
                self._hold(message, kafka)
            case Released():
                self._release(message.partition, message.generation)
            case Resume():
                chosen = [hold for p, hold in self.holds.items() if message.names(p)]
                for hold in chosen:
                    # The batch of a probe under way is refused before this is heard of.
                    self._back(hold, kafka)
                    self._resume(hold, kafka.highwater(TopicPartition(*hold.partition)))
                answer(message.reply, tuple(hold.partition for hold in chosen))

    def pause(self, pauses: Pauses) -> None:
        self._holds = dict(self.holds)
        pauses.hold(CAUSE, (p for p, hold in self._holds.items() if hold.paused))
        metrics.HELD_PARTITIONS.set(len(self._holds))

    def fetched(self, chunks: Iterable[RawChunk]) -> None:
        """One batch is enough of a probe; that it is one is all that was asked of a batch."""
        for chunk in chunks:
            hold = self._holds.get(chunk.partition)
            if hold is not None and hold.is_batch:
                self._release(chunk.partition, hold.generation)
            self._holds = rules.at_stage(self._holds, chunk.partition, Stage.ASKED)

    def refuse(self, error: UnreadableBatchError, kafka: AIOKafkaConsumer) -> None:
        """Hold a partition whose next record batch is none, until it is one or the log forgets.

        What getmany had of other partitions it forgot with the error, positions moved: all go back.
        """
        for other, offset in self._positions.again().items():
            kafka.seek(TopicPartition(*other), offset)
        partition = (error.position.topic, error.position.partition)
        generation, expected = (
            self._positions.generation(partition),
            self._positions.expected(partition),
        )
        metrics.UNREADABLE_BATCHES.inc()
        if generation is not None and expected is not None:
            hold = Hold(partition, generation, expected, 1, error.message, 0, 0.0, is_batch=True)
            self._hold(Held(hold), kafka)

    async def probe(self, end_of: EndOf) -> None:
        """Read on where it is time to; accept what the log would forget. One look."""
        due = rules.due(self._holds, self._clock.monotonic_s())
        if not due:
            return
        retentions = await self._retentions({hold.partition[0] for hold in due})
        for hold in due:
            end, retention = end_of(hold.partition), retentions.get(hold.partition[0])
            now_us = self._clock.now_us()
            if retention and hold.outlived(retention, log_end=end, now_us=now_us):
                self._go_on(hold, end)
                metrics.HOLDS_OUTLIVED.inc()
                log.error("burst_accepted", **named(hold), by="retention: half of it is used")
            else:
                self._holds = rules.at_stage(self._holds, hold.partition, Stage.PROBING)

    def _hold(self, told: Held, kafka: AIOKafkaConsumer) -> None:
        hold = told.hold
        if not self._back(hold, kafka):
            return
        if hold.partition not in self.holds:
            metrics.HOLDS.inc()
            log.error("partition_held", **named(hold), broken=hold.broken, why=hold.why)
        now_s = self._clock.monotonic_s()
        self._holds = rules.put(
            self._holds, hold, now_us=self._clock.now_us(), probe_at_s=now_s + self._probe_every_s
        )

    def _release(self, partition: Partition, generation: int) -> None:
        log.info("partition_released", topic=partition[0], partition=partition[1])
        self._holds = rules.without(self._holds, partition, generation)

    def _resume(self, hold: Hold, log_end: int | None) -> None:
        """Do what was asked for by hand: without its batch there is only another try."""
        if hold.is_batch:
            self._holds = rules.at_stage(self._holds, hold.partition, Stage.PROBING)
            return
        self._go_on(hold, log_end)
        log.warning("burst_accepted", **named(hold), by="hand")

    def _back(self, hold: Hold, kafka: AIOKafkaConsumer) -> bool:
        """Go back to where a hold begins. False where the partition was placed anew meanwhile."""
        ours = self._positions.rewind(hold.partition, hold.generation, hold.start)
        if ours:
            kafka.seek(TopicPartition(*hold.partition), hold.start)
        return ours

    def _go_on(self, hold: Hold, log_end: int | None) -> None:
        """Have what waits now dead-lettered as any other, and read on."""
        until = max(log_end or 0, hold.start + 1)
        self._outbox.put(Accept(hold.partition, hold.generation, until))
        self._holds = rules.without(self._holds, hold.partition, hold.generation)

    async def _retentions(self, topics: Iterable[str]) -> Mapping[str, Retention]:
        try:
            async with asyncio.timeout(RETENTION_TIMEOUT_S):
                return await self._ask_retention(topics)
        except (UnavailableError, TimeoutError) as error:
            log.warning("retention_unknown", why=str(error))
            return {}


def named(hold: Hold) -> dict[str, str | int]:
    topic, partition = hold.partition
    return {"topic": topic, "partition": partition, "offset": hold.start}
