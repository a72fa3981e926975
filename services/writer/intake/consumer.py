"""The consumer: takes what Kafka delivers where the table says, and nothing that starts elsewhere.

Loops over one state: `_poll` takes records, `_place` asks the table where to read on, `_publish`
tells Kafka the decoded positions, as a gauge of lag that nobody reads positions from, and `_probe`
tries again what is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from libs.kafka.runs import Run
from libs.kafka.unreadable import UnreadableBatchError
from libs.market.errors import K2Error
from libs.runtime.actor import Actor
from libs.runtime.faultpoint import reach
from libs.runtime.mailbox import Mailbox, MailboxClosedError
from services.writer import metrics
from services.writer.intake.holding import Holder, Holding
from services.writer.intake.holds import Hold
from services.writer.intake.outbox import Outbox
from services.writer.intake.pauses import MemoryRestraint, Pauses
from services.writer.intake.positions import Partition, Positions, Refuse, Seek
from services.writer.intake.rebalance import Rebalance
from services.writer.intake.taking import taken
from services.writer.messages import FencedOff, Fetched, Flush, ToConsumer

if TYPE_CHECKING:
    from services.writer.batching.batcher import Batcher
    from services.writer.intake.placing import Placer

log = structlog.get_logger()

# Polling this takes nothing and keeps what is prefetched; it shows the group that we are alive.
NOWHERE = TopicPartition("", 0)
POLL_MS = 200
HELD_POLL_MS = 20
# While the group rebalances getmany waits for the assignment, without a bound of its own.
POLL_TIMEOUT_S = 1.0
PLACE_AGAIN_S = 0.5
PUBLISH_EVERY_S = 1.0

OpenConsumer = Callable[[Rebalance], Awaitable[AIOKafkaConsumer]]


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """Bounds of one consumer."""

    hand_over_s: float = 5.0


@dataclass(frozen=True, slots=True)
class PartitionView:
    """An assigned partition as the consumer sees it."""

    partition: Partition
    decoded: int
    end: int | None
    paused: bool
    hold: Hold | None = None


class Consumer(Actor):
    """Holds the group membership, the positions and the pauses."""

    name = "consumer"

    def __init__(
        self,
        mailbox: Mailbox[ToConsumer],
        open_consumer: OpenConsumer,
        placer: Placer,
        batcher: Batcher,
        restraint: MemoryRestraint,
        holding: Holding,
        options: ConsumerOptions | None = None,
    ) -> None:
        self._mailbox = mailbox
        self._open = open_consumer
        self._placer = placer
        self._batcher = batcher
        self._options = options or ConsumerOptions()
        self._restraint = restraint
        self._pauses = Pauses()
        self._positions = Positions()
        self._outbox = Outbox(batcher, hand_over_s=self._options.hand_over_s)
        self._holder = Holder(holding, self._positions, self._outbox)
        self._unplaced = asyncio.Event()
        self._stopping = asyncio.Event()
        self._kafka: AIOKafkaConsumer | None = None
        self.refused: Mapping[Partition, str] = {}
        self.not_placed_because = ""

    async def start(self) -> None:
        self._positions.revoke()
        self._outbox.clear()
        self._kafka = await self._open(
            Rebalance(self._positions, self._unplaced.set, self._outbox.hand_over)
        )

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as loops:
                for loop in (self._poll, self._place, self._publish, self._probe):
                    loops.create_task(loop(), name=f"consumer{loop.__name__}")
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def stop(self) -> None:
        self._stopping.set()
        self._unplaced.set()

    async def close(self) -> None:
        kafka, self._kafka = self._kafka, None
        self._positions.revoke()
        if kafka is not None:
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(self._options.hand_over_s):
                    await kafka.stop()

    @property
    def placed(self) -> frozenset[Partition]:
        """The partitions whose log is known to be the table's."""
        return self._positions.assigned - self._positions.unplaced

    @property
    def handed_over(self) -> bool:
        """Whether everything fetched has gone to the batcher."""
        return not self._outbox

    def view(self) -> tuple[PartitionView, ...]:
        """Show each assigned partition."""
        still, holds = self._positions.unplaced | self._pauses.held, self._holder.holds
        return tuple(
            PartitionView(p, self._decoded(p) or 0, self._end(p), p in still, holds.get(p))
            for p in sorted(self._positions.assigned)
        )

    async def _poll(self) -> None:
        while not self._stopping.is_set():
            await self._obey()
            self._restraint.hold(self._pauses, self._positions.assigned)
            self._restraint.lessen(self._consumer)
            self._holder.pause(self._pauses)
            self._pauses.apply(self._consumer, self._positions)
            self._restraint.obeyed()
            self._outbox.offer()
            if self._outbox:
                await self._getmany(NOWHERE, timeout_ms=HELD_POLL_MS)
            else:
                await self._fetch()
        if self._positions.assigned:
            await self._outbox.hand_over()

    async def _obey(self) -> None:
        while self._mailbox.depth:
            message = await self._mailbox.get()
            if isinstance(message, Flush):
                self._outbox.put(message)
            elif isinstance(message, FencedOff):
                self._forget(self._positions.fence(message.generations))
            else:
                self._holder.obey(message, self._consumer)

    async def _fetch(self) -> None:
        delivered = await self._getmany(timeout_ms=POLL_MS)
        if not delivered:
            return
        await reach("writer.after_fetch")
        chunks = tuple(taken(delivered, self._positions, self._consumer))
        metrics.FETCHED.inc(sum(len(chunk.offsets) for chunk in chunks))
        self._holder.fetched(chunks)
        if chunks:
            self._outbox.put(Fetched(chunks))

    async def _getmany(
        self, *partitions: TopicPartition, timeout_ms: int
    ) -> dict[TopicPartition, list[Run]]:
        try:
            async with asyncio.timeout(POLL_TIMEOUT_S):
                found: dict[TopicPartition, list[Run]] = await self._consumer.getmany(
                    *partitions, timeout_ms=timeout_ms, max_records=self._restraint.max_runs
                )
                return found
        except TimeoutError:
            return {}
        except OffsetOutOfRangeError as error:
            out_of_range = [(tp.topic, tp.partition) for tp in error.args[0]]
            self._forget(self._positions.unplace(out_of_range))
            return {}
        except UnreadableBatchError as error:
            self._holder.refuse(error, self._consumer)
            return {}

    def _forget(self, partitions: Iterable[Partition]) -> None:
        """Pause partitions until they are placed again."""
        for partition in partitions:
            with suppress(KafkaError):
                self._consumer.pause(TopicPartition(*partition))
            self._unplaced.set()

    async def _place(self) -> None:
        while not self._stopping.is_set():
            await self._unplaced.wait()
            self._unplaced.clear()
            unplaced = self._positions.unplaced
            if unplaced and not await self._place_once(unplaced):
                await self._nap(PLACE_AGAIN_S)
                self._unplaced.set()

    async def _place_once(self, partitions: frozenset[Partition]) -> bool:
        """Ask where to read on, and go there; false where some are still not placed."""
        assignment = self._positions.assignment
        try:
            placements = await self._placer.place(self._consumer, partitions)
        except (K2Error, KafkaError, TimeoutError) as error:
            self.not_placed_because = str(error) or "Kafka does not answer"
            log.warning("not_placed", why=self.not_placed_because)
            return False
        self.not_placed_because = ""
        for partition, placement in placements.items():
            if isinstance(placement, Seek):
                self._read_on(partition, placement.offset, assignment)
        self._note_refusals(placements)
        return not self._positions.unplaced

    def _read_on(self, partition: Partition, offset: int, assignment: int) -> None:
        if self._positions.place(partition, offset, assignment=assignment):
            tp = TopicPartition(*partition)
            self._consumer.seek(tp, offset)
            # What was assigned since the last poll is not held yet, whatever memory demands.
            self._restraint.hold(self._pauses, self._positions.assigned)
            self._pauses.resume(self._consumer, self._positions, partition)
            log.info("placed", topic=tp.topic, partition=tp.partition, offset=offset)

    def _note_refusals(self, placements: Mapping[Partition, object]) -> None:
        before = self.refused
        refused = {p: r.reason for p, r in placements.items() if isinstance(r, Refuse)}
        for reason in set(refused.values()) - set(before.values()):
            log.error("partition_refused", why=reason)
        self.refused = refused

    async def _publish(self) -> None:
        while not self._stopping.is_set():
            await self._nap(PUBLISH_EVERY_S)
            placed = self._positions.assigned - self._positions.unplaced
            decoded = {TopicPartition(*p): self._decoded(p) for p in placed}
            self._gauge()
            if decoded:
                await reach("writer.before_offsets")
                with suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(PUBLISH_EVERY_S):
                        await self._consumer.commit(decoded)
                await reach("writer.after_offsets")

    async def _probe(self) -> None:
        while not self._stopping.is_set():
            await self._nap(PUBLISH_EVERY_S)
            await self._holder.probe(self._end)

    def _gauge(self) -> None:
        views = self.view()
        metrics.PAUSED_PARTITIONS.set(sum(view.paused for view in views))
        metrics.LAG.set(sum(max(0, v.end - v.decoded) for v in views if v.end is not None))

    def _decoded(self, partition: Partition) -> int | None:
        """Return the position up to which this placing's records are decoded."""
        decoded = self._batcher.decoded.get(partition)
        if decoded is not None and decoded.generation == self._positions.generation(partition):
            return decoded.following
        return self._positions.placed_at(partition)

    def _end(self, partition: Partition) -> int | None:
        with suppress(KafkaError, MailboxClosedError):
            end: int | None = self._consumer.highwater(TopicPartition(*partition))
            return end
        return None

    async def _nap(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    @property
    def _consumer(self) -> AIOKafkaConsumer:
        if self._kafka is None:
            raise MailboxClosedError("the consumer is not running", actor=self.name)
        return self._kafka
