"""Reads back the shed rows that snapshots passed by before this process was there to keep them.

In the background, and from Kafka: until they are here, answers name them as lacking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from libs.kafka.admin import begin_offsets
from libs.kafka.client import start_consumer, stop_client
from libs.kafka.deadline import deadline
from libs.kafka.unreadable import UnreadableBatchError, name_unreadable
from libs.market.errors import K2Error
from libs.runtime.actor import Actor
from libs.wire.trades import TradeDecoder
from services.query.completeness.missing import Partition, Span, gaps, joined
from services.query.keeper import Keeper, ReadShed
from services.query.state import Board, State
from services.query.tail.aside import AGAIN_S
from services.query.tail.decoding import Decoding, Records, decoded
from services.query.tail.held import not_kept

log = structlog.get_logger()

LOOK_EVERY_S = 5.0
FIRST_LOOK_S = 0.05
KAFKA_TIMEOUT_S = 30.0
POLL_MS = 200
MOST_RECORDS = 20_000
# Queries and the tail come first.
PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets of one partition with records, of these keys, that were shed."""

    partition: Partition
    start: int
    end: int
    keys: frozenset[bytes]


class ShedReader(Actor):
    """Tells the keeper of shed rows. What the log does not have any more it asks for once."""

    def __init__(
        self,
        bootstrap: str,
        board: Board,
        keeper: Keeper,
        decoder: TradeDecoder,
        *,
        client_id: str,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.name = "shed reader"
        self._bootstrap = bootstrap
        self._board = board
        self._keeper = keeper
        self._decoder = decoder
        self._client_id = client_id
        self._look_every_s = look_every_s
        self._tried: dict[Partition, tuple[Span, ...]] = {}
        self._rests: dict[Partition, float] = {}
        self._stopping = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="shed")

    async def run(self) -> None:
        while not self._stopping.is_set():
            state = self._board.published
            stretches = [] if state is None else list(readable(state, self._tried))
            if stretches:
                await self._read_all(stretches)
            found = state is not None and state.log_is_known
            await self._nap(self._look_every_s if found else FIRST_LOOK_S)

    async def stop(self) -> None:
        self._stopping.set()

    def release(self) -> None:
        self._worker.shutdown()

    async def _read_all(self, stretches: Sequence[Stretch]) -> None:
        """Read stretch by stretch; what fails is tried again at the next look."""
        try:
            consumer = await start_consumer(self._bootstrap, self._client_id)
        except K2Error as error:
            log.warning("shed_rows_not_read", why=str(error))
            return
        name_unreadable(consumer)
        try:
            for stretch in stretches:
                if await self._read_readable(consumer, stretch):
                    self._done(stretch)
        except (K2Error, KafkaError) as error:
            log.warning("shed_rows_not_read", why=str(error))
        finally:
            await asyncio.shield(stop_client(consumer))

    async def _read_readable(self, consumer: AIOKafkaConsumer, stretch: Stretch) -> bool:
        """Read a stretch; one with a record batch that is none rests, and is tried again."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._rests.get(stretch.partition, now_s):
            return False
        try:
            await self._read(consumer, stretch)
        except UnreadableBatchError as error:
            self._rests[stretch.partition] = now_s + AGAIN_S
            log.warning("shed_rows_unreadable", why=error.message)
            return False
        return True

    async def _read(self, consumer: AIOKafkaConsumer, stretch: Stretch) -> None:
        topic, number = stretch.partition
        begins = await begin_offsets(consumer, topic, timeout_s=KAFKA_TIMEOUT_S)
        at = max(stretch.start, begins.get(number, stretch.end))
        if at > stretch.start:
            log.warning("shed_rows_gone", topic=topic, partition=number, before_offset=at)
        partition = TopicPartition(topic, number)
        consumer.assign([partition])
        consumer.seek(partition, at)
        complaint = f"Kafka did not give the shed records of {topic} partition {number}"
        while at < stretch.end and not self._stopping.is_set():
            async with deadline(complaint, KAFKA_TIMEOUT_S):
                at = await self._read_some(consumer, stretch, at)
            await asyncio.sleep(PAUSE_S)

    async def _read_some(self, consumer: AIOKafkaConsumer, stretch: Stretch, start: int) -> int:
        """Read on from `start`; return how far it came."""
        topic, number = stretch.partition
        partition = TopicPartition(topic, number)
        try:
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=MOST_RECORDS)
        except OffsetOutOfRangeError:
            return stretch.end
        found = [
            record
            for record in fetched.get(partition, ())
            if record.key in stretch.keys and record.offset < stretch.end
        ]
        end = min(int(await consumer.position(partition)), stretch.end)
        rows = Decoding()
        if found:
            records: Records = {partition: found}
            loop = asyncio.get_running_loop()
            rows = await loop.run_in_executor(self._worker, decoded, self._decoder, topic, records)
        if end > start:
            span = {number: (start, end)}
            await self._keeper.tell(ReadShed(topic, rows.chunk, span, rows.undecoded))
        return end

    def _done(self, stretch: Stretch) -> None:
        if not self._stopping.is_set():
            before = self._tried.get(stretch.partition, ())
            self._tried[stretch.partition] = joined((*before, (stretch.start, stretch.end)))

    async def _nap(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def readable(state: State, tried: Mapping[Partition, Sequence[Span]]) -> Iterator[Stretch]:
    """Yield what waits in a log that the tail has found to be the table's own."""
    if state.log_is_known:
        yield from (one for one in waiting(state, tried) if one.partition not in state.refused)


def waiting(state: State, tried: Mapping[Partition, Sequence[Span]]) -> Iterator[Stretch]:
    """Yield what is shed, not kept, and was not tried to be read yet."""
    for (topic, partition), shed in not_kept(state.index.ledger, state.tail.kept):
        keys = frozenset(symbol.encode() for symbol in shed.symbols)
        for start, end in gaps((shed.start, shed.end), tried.get((topic, partition), ())):
            yield Stretch((topic, partition), start, end, keys)
