"""Reads the log from the seam on: one fetch after the other, decoded off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from prometheus_client import Gauge

from libs.kafka.admin import begin_offsets, end_offsets, ensure_topics
from libs.kafka.client import start_consumer, stop_client
from libs.kafka.deadline import deadline
from libs.kafka.unreadable import UnreadableBatchError, name_unreadable
from libs.market.errors import UnavailableError
from libs.runtime.actor import Actor
from libs.wire.trades import TradeDecoder
from services.query.completeness.missing import Span
from services.query.keeper import Checked, Keeper, Reached, Read, Target, Unreadable
from services.query.offsets import Offsets
from services.query.state import Board, State
from services.query.tail.aside import SetAside
from services.query.tail.decoding import Decoding, Records, decoded
from services.query.tail.same_log import AnotherLogError, LogCheck, starts
from services.query.tracing import reading

log = structlog.get_logger()

PROBLEM = Gauge(
    "k2_query_log_problem", "1 while Kafka's log is not the one that the table was written from"
)

# Kafka gathers for so long, or until there is so much, and what it then answers is fresh. A pause
# on this side would not be: the next fetch is answered at once and lies here until it is over.
# A fetch costs 2 ms of CPU however few rows it has: the wait bounds it to a fifth of a core.
GATHER_MS = 10
GATHER_BYTES = 1024 * 1024
POLL_MS = 50
KAFKA_TIMEOUT_S = 30.0
MOST_RECORDS = 20_000
FIRST_STATE_POLL_S = 0.01
PAUSE_WHILE_FULL_S = 1.0
# aiokafka reconnects without a word: a log that was made anew meanwhile is found by looking.
CHECK_EVERY_S = 10.0
REFUSED_AGAIN_S = 2.0
# Within the sum of both it shows that Kafka is gone.
LOOK_EVERY_S = 2.0
END_TIMEOUT_S = 5.0


class TailReader(Actor):
    """Feeds the keeper. After a failure it goes on where the published state ends."""

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        board: Board,
        keeper: Keeper,
        decoder: TradeDecoder,
        check: LogCheck,
        *,
        client_id: str,
        most_bytes: int,
        check_every_s: float = CHECK_EVERY_S,
    ) -> None:
        self.name = "tail reader"
        self.aside = SetAside()
        self.problem = ""
        self._bootstrap = bootstrap
        self._topics = topics
        self._board = board
        self._keeper = keeper
        self._decoder = decoder
        self._check = check
        self._check_every_s = check_every_s
        self._client_id = client_id
        self._most_bytes = most_bytes
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int] = {}
        self._good: Offsets = {}
        self._stopping = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="tail")

    async def start(self) -> None:
        await ensure_topics(self._bootstrap, self._topics)
        self._consumer = await start_consumer(
            self._bootstrap,
            self._client_id,
            fetch_min_bytes=GATHER_BYTES,
            fetch_max_wait_ms=GATHER_MS,
        )
        name_unreadable(self._consumer)

    async def run(self) -> None:
        state = await self._first_state()
        while state is not None and not self._stopping.is_set():
            try:
                await self._follow(self._board.state)
            except AnotherLogError as error:
                await self._refuse(error)
                await self._nap(REFUSED_AGAIN_S)

    async def stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_client(consumer)

    def release(self) -> None:
        self._worker.shutdown()

    @property
    def _reading(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise UnavailableError("the tail's consumer is not started")
        return self._consumer

    async def _first_state(self) -> State | None:
        while (state := self._board.published) is None:
            if self._stopping.is_set():
                return None
            await asyncio.sleep(FIRST_STATE_POLL_S)
        return state

    async def _follow(self, state: State) -> None:
        """Read the log on, looking now and then whether it is still the same one."""
        await self._begin(state)
        try:
            async with asyncio.TaskGroup() as loops:
                for loop in (self._read, self._check_now_and_then, self._look_for_the_end):
                    loops.create_task(loop(), name=f"tail{loop.__name__}")
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _begin(self, state: State) -> None:
        """Assign every partition from where the state ends, and say how far the log goes."""
        bounds = {topic: await self._log_bounds(topic) for topic in self._topics}
        self._next = {}
        for topic, (begins, ends) in bounds.items():
            self._next |= starts(topic, state.high, begins, ends)
        async with deadline("Kafka did not show the records below the table's offsets", 30.0):
            await self._check.check(state, {topic: begins for topic, (begins, _) in bounds.items()})
        await self._accept(state)
        for topic, (_, ends) in bounds.items():
            spans = {p: (at, at) for (t, p), at in self._next.items() if t == topic}
            await self._keeper.tell(Read(topic, None, spans, ends))
        consumer = self._reading
        self.aside.clear()
        await self._keeper.tell(Unreadable(self.aside.partitions))
        consumer.assign(list(self._next))
        for partition, offset in self._next.items():
            consumer.seek(partition, offset)
        await self._keeper.tell(Target({topic: ends for topic, (_, ends) in bounds.items()}))
        log.info("tail_began", partitions=len(self._next))

    async def _accept(self, state: State) -> None:
        """The log is the table's own: what was read up to here may stay."""
        self.problem = ""
        PROBLEM.set(0)
        self._good = state.high
        await self._keeper.tell(Checked(frozenset(), {}))

    async def _refuse(self, error: AnotherLogError) -> None:
        """Read no more; what was read since the last good look goes."""
        if error.message != self.problem:
            log.error("another_log", why=error.message)
        self.problem = error.message
        PROBLEM.set(1)
        await self._keeper.tell(Checked(error.partitions, self._good))

    async def _read(self) -> None:
        while not self._stopping.is_set():
            self._try_again()
            await self._read_once()
            if self._full():
                await self._nap(PAUSE_WHILE_FULL_S)

    async def _check_now_and_then(self) -> None:
        while not self._stopping.is_set():
            await self._nap(self._check_every_s)
            state = self._board.state
            try:
                begins = {topic: (await self._log_bounds(topic))[0] for topic in self._topics}
                await self._check.check(state, begins)
            except (UnavailableError, KafkaError) as error:
                log.info("log_not_checked", why=str(error))
            else:
                self._good = state.high

    async def _look_for_the_end(self) -> None:
        """Say when Kafka stops telling where the log ends: an answer may lack what nobody knows.

        aiokafka fetches in vain without a word.
        """
        reached = True
        while not self._stopping.is_set():
            try:
                for topic in self._topics:
                    await end_offsets(self._reading, topic, timeout_s=END_TIMEOUT_S)
                tells = True
            except UnavailableError as error:
                tells = False
                log.warning("log_unreachable", why=str(error))
            if tells != reached:
                reached = tells
                await self._keeper.tell(Reached(reached))
            await self._nap(LOOK_EVERY_S)

    async def _nap(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _log_bounds(self, topic: str) -> tuple[dict[int, int], dict[int, int]]:
        """Return where a topic begins and ends."""
        begins = await begin_offsets(self._reading, topic, timeout_s=KAFKA_TIMEOUT_S)
        return begins, await end_offsets(self._reading, topic, timeout_s=KAFKA_TIMEOUT_S)

    async def _read_once(self) -> None:
        if self._full():
            await self._tell_ends()
            return
        try:
            async with asyncio.timeout(KAFKA_TIMEOUT_S):
                records = await self._reading.getmany(timeout_ms=POLL_MS, max_records=MOST_RECORDS)
        except OffsetOutOfRangeError as error:
            await self._skip_to_log(error)
            return
        except UnreadableBatchError as error:
            await self._set_aside(error)
            return
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"the tail cannot read from Kafka: {error!r}") from error
        spans = await self._passed()
        for topic in self._topics:
            own = {p.partition: span for p, span in spans.items() if p.topic == topic}
            if own:
                found = {p: r for p, r in records.items() if p.topic == topic}
                await self._take(topic, found, own)

    async def _passed(self) -> dict[TopicPartition, Span]:
        """Return what was read since the last time: records, and markers that are no records.

        A partition may end in a transaction's marker or in what compaction left empty: there the
        position alone tells that the end is reached.
        """
        spans = {}
        for partition, start in self._next.items():
            position = await self._reading.position(partition)
            if position != start:
                spans[partition] = (start, position)
        self._next |= {partition: end for partition, (_, end) in spans.items()}
        await self._take_back(spans)
        return spans

    async def _take_back(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these on as any other: a bad batch is behind them, mended or forgotten."""
        if self.aside.read_on(partitions):
            await self._keeper.tell(Unreadable(self.aside.partitions))

    async def _set_aside(self, error: UnreadableBatchError) -> None:
        """Read the others on: what was in hand of them is forgotten, so they go back."""
        self.aside.put(error, asyncio.get_running_loop().time())
        self._reading.pause(error.position)
        for partition, offset in self._next.items():
            self._reading.seek(partition, offset)
        await self._keeper.tell(Unreadable(self.aside.partitions))

    def _try_again(self) -> None:
        for partition in self.aside.due(asyncio.get_running_loop().time()):
            self._reading.seek(partition, self._next[partition])
            self._reading.resume(partition)

    async def _take(self, topic: str, records: Records, spans: Mapping[int, Span]) -> None:
        found, spans_of_bursts = Decoding(), reading(records)
        if records:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._worker, decoded, self._decoder, topic, records)
        ends = self._ends(topic)
        await self._keeper.tell(Read(topic, found.chunk, spans, ends, found.undecoded))
        for span in spans_of_bursts:
            span.end()

    async def _tell_ends(self) -> None:
        """Say how far the log has gone on while reading waits."""
        for topic in self._topics:
            ends = await end_offsets(self._reading, topic, timeout_s=KAFKA_TIMEOUT_S)
            await self._keeper.tell(Read(topic, None, {}, ends))

    def _ends(self, topic: str) -> dict[int, int]:
        """Return the ends of the log that came with the last fetches."""
        marks = {p.partition: self._reading.highwater(p) for p in self._next if p.topic == topic}
        return {partition: mark for partition, mark in marks.items() if mark is not None}

    def _full(self) -> bool:
        state = self._board.published
        if state is None:
            return False
        return state.tail.bytes_past_seam > self._most_bytes

    async def _skip_to_log(self, error: OffsetOutOfRangeError) -> None:
        """Go on where the log begins now; what retention took is named as lacking, not hidden."""
        log.warning("tail_overtaken_by_retention", positions=str(error))
        for topic in self._topics:
            begins, ends = await self._log_bounds(topic)
            at = {topic: {p.partition: n for p, n in self._next.items() if p.topic == topic}}
            found = starts(topic, at, begins, ends)
            await self._take_back(p for p, offset in found.items() if offset > self._next[p])
            for partition, offset in found.items():
                self._next[partition] = offset
                self._reading.seek(partition, offset)
            spans = {p.partition: (n, n) for p, n in self._next.items() if p.topic == topic}
            await self._keeper.tell(Read(topic, None, spans, ends))
