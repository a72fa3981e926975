"""Delivery to Kafka: in order per partition, for as long as it takes, never twice.

What Kafka has not acknowledged is kept here. aiokafka's idempotent producer repeats what may be
repeated, without end and without doubling. A batch that Kafka refuses breaks its partition's
numbering, so then everything under way is settled first, and what was refused goes again, in
order, through a new producer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiokafka.errors import KafkaError, KafkaTimeoutError

from libs.kafka.client import MAX_BATCH_BYTES
from libs.kafka.ready import ReadyBatch
from libs.kafka.send import Batch, fill
from libs.market.clock import Clock
from libs.market.errors import UnavailableError
from libs.runtime.backoff import Backoff
from services.ingestor import measures
from services.ingestor.delivering.records import Records

log = structlog.get_logger()

BACKOFF = Backoff(first_s=0.2, most_s=10)
HAND_OVER_TIMEOUT_S = 60.0
# How long Kafka may keep silent before it is said in the log.
PATIENCE_S = 5.0
MOST_IN_FLIGHT_RECORDS = 65_536


class Producer(Protocol):
    """What is used of AIOKafkaProducer."""

    def create_batch(self) -> Batch: ...

    async def send_batch(
        self, batch: Batch | ReadyBatch, topic: str, *, partition: int
    ) -> asyncio.Future[object]: ...

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _InFlight:
    records: Records
    acknowledged: asyncio.Future[object]
    sent_s: float


class Delivery:
    """Takes records, and forgets them when Kafka has them."""

    def __init__(
        self,
        open_producer: Callable[[], Awaitable[Producer]],
        *,
        clock: Clock,
        on_acknowledged: Callable[[str, int], None],
    ) -> None:
        self._open_producer = open_producer
        self._clock = clock
        self._on_acknowledged = on_acknowledged
        self._producer: Producer | None = None
        self._waiting: deque[Records] = deque()
        self._in_flight: deque[_InFlight] = deque()
        self._in_flight_records = 0
        self._refusals = 0
        self._progress_s = clock.monotonic_s()
        self._seldom = measures.Seldom(PATIENCE_S)

    @property
    def unacknowledged(self) -> int:
        """Records that are not safe yet."""
        return sum(len(r) for r in self._waiting) + self._in_flight_records

    @property
    def silent_s(self) -> float:
        """How long Kafka has taken nothing, although something waits for it."""
        return self._clock.monotonic_s() - self._progress_s if self.unacknowledged else 0.0

    async def open(self) -> None:
        """Start a producer.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        self._producer = await self._open_producer()

    async def close(self) -> None:
        """Stop the producer; what it could not deliver is kept for the next one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await producer.stop()
        self._take_back()

    def add(self, records: Sequence[Records]) -> None:
        """Take records over: from here on they are this object's to deliver."""
        if not self.unacknowledged:
            self._progress_s = self._clock.monotonic_s()
        self._waiting.extend(r for r in records if len(r))

    async def send(self) -> None:
        """Hand everything to the producer, waiting while too much is under way."""
        while self._waiting:
            await self._send_first()
            await self.settle(MOST_IN_FLIGHT_RECORDS)

    async def settle(self, most: int) -> None:
        """Wait until at most `most` records are under way; refused ones are sent again."""
        while self._in_flight:
            oldest = self._in_flight[0].acknowledged
            if not oldest.done():
                if self._in_flight_records <= most:
                    break
                await self._wait_for([oldest])
            elif _succeeded(oldest):
                self._acknowledge(self._take_oldest())
            else:
                await self._recover()
        measures.IN_FLIGHT.set(self._in_flight_records)

    async def flush(self) -> None:
        """Return when Kafka has everything."""
        while self._waiting or self._in_flight:
            await self.send()
            await self.settle(0)

    async def _send_first(self) -> None:
        if self._producer is None:
            self._producer = await self._reopened()
        producer = self._producer
        first = self._waiting[0]
        batch, count = _batch(producer, first)
        acknowledged = await self._hand_over(producer, batch, first)
        if acknowledged is None:
            return
        whole = count == len(first)
        taken = first if whole else first.part(0, count)
        self._in_flight.append(_InFlight(taken, acknowledged, self._clock.monotonic_s()))
        self._in_flight_records += count
        if whole:
            self._waiting.popleft()
        else:
            self._waiting[0] = first.part(count)

    async def _hand_over(
        self, producer: Producer, batch: Batch | ReadyBatch, records: Records
    ) -> asyncio.Future[object] | None:
        """Return the future acknowledgement; None where the batch was not taken."""
        try:
            async with asyncio.timeout(HAND_OVER_TIMEOUT_S):
                return await producer.send_batch(batch, records.topic, partition=records.partition)
        except (KafkaTimeoutError, TimeoutError):
            self._complain("Kafka does not take records")
        except KafkaError as error:
            self._complain(f"Kafka refuses records: {error!r}")
            if error.retriable:
                await asyncio.sleep(BACKOFF.wait_s(1))
            else:
                await self._recover()
        return None

    async def _recover(self) -> None:
        """Go on with a new producer, once it is known of every batch whether Kafka has it."""
        self._refusals += 1
        while pending := [s.acknowledged for s in self._in_flight if not s.acknowledged.done()]:
            await self._wait_for(pending)
        await self.close()
        measures.RESENDS.inc()
        await asyncio.sleep(BACKOFF.wait_s(self._refusals))
        self._producer = await self._reopened()

    @property
    def untaken(self) -> list[Records]:
        """Once closed, all that Kafka has not acknowledged, in order."""
        return list(self._waiting)

    def forget_untaken(self) -> None:
        """Have it no more: somebody else keeps it."""
        self._waiting.clear()

    def _take_back(self) -> None:
        """Have what Kafka did not acknowledge wait again, in order."""
        refused = []
        while self._in_flight:
            sent = self._take_oldest()
            if _succeeded(sent.acknowledged):
                self._acknowledge(sent)
            else:
                refused.append(sent.records)
        self._waiting.extendleft(reversed(refused))

    def _take_oldest(self) -> _InFlight:
        sent = self._in_flight.popleft()
        self._in_flight_records -= len(sent.records)
        return sent

    async def _reopened(self) -> Producer:
        failures = 0
        while True:
            try:
                return await self._open_producer()
            except UnavailableError as error:
                failures += 1
                self._complain(error.message)
                await asyncio.sleep(BACKOFF.wait_s(failures))

    async def _wait_for(self, futures: Sequence[asyncio.Future[object]]) -> None:
        await asyncio.wait(futures, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if not any(future.done() for future in futures):
            self._complain("Kafka does not acknowledge records")

    def _acknowledge(self, sent: _InFlight) -> None:
        self._refusals = 0
        self._progress_s = self._clock.monotonic_s()
        measures.ACK_SECONDS.observe(self._clock.monotonic_s() - sent.sent_s)
        self._on_acknowledged(sent.records.topic, len(sent.records))

    def _complain(self, what: str) -> None:
        unsaid = self._seldom.may_say(what, self._clock.monotonic_s())
        if unsaid is not None:
            log.warning("kafka_away", what=what, waiting_records=self.unacknowledged)


def _batch(producer: Producer, records: Records) -> tuple[Batch | ReadyBatch, int]:
    """Return a batch of as many records as it holds, and how many they are."""
    section = records.section
    if section is not None and not records.headers and len(section.data) < MAX_BATCH_BYTES:
        return ReadyBatch(section), section.records
    batch = producer.create_batch()
    return batch, fill(batch, records.keys, records.values, records.headers)


def _succeeded(acknowledged: asyncio.Future[object]) -> bool:
    """Tell whether Kafka said yes; what it has not answered is not."""
    return acknowledged.done() and not acknowledged.cancelled() and acknowledged.exception() is None
