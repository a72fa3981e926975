"""The backfiller: writes what was put off, when there is nothing better to do or no more time.

One piece at a time: read it beside the group, decode what the range owes and nothing else, and
have the committer write it with a commit that closes the piece. The fence is the table's: where
another writer closed it meanwhile, the commit is refused and nothing is doubled.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog
from aiokafka.errors import KafkaError

from libs.degradation.policy import PriorityPolicy
from libs.kafka.unreadable import UnreadableBatchError
from libs.lake.commits.commit import Kind
from libs.lake.commits.seam import OffsetRange
from libs.market.clock import Clock
from libs.market.errors import K2Error
from libs.runtime.actor import Actor, MailboxActor, ask
from libs.runtime.faultpoint import reach
from libs.wire.trades import TradeDecoder
from services.writer import metrics
from services.writer.backfill import plan
from services.writer.backfill.open_ranges import Ledgers, OpenRanges
from services.writer.backfill.plan import Debt, Limits, Pace, Piece, Times
from services.writer.backfill.reader import NO_GENERATION, BackfillReader, Found
from services.writer.batching.batcher import decode_chunk
from services.writer.batching.buffer import Chunk, Part
from services.writer.batching.shedding import Split, classes_in
from services.writer.intake.bursts import Batch, BurstRule, broken_among
from services.writer.messages import Commit, Flushed, RecordLost, ToCommitter

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
ASK_TIMEOUT_S = 30.0
AFTER_BURST_S = 30.0
RATE_OVER_S = 30.0


class UnreadableError(K2Error):
    """Most of a piece cannot be read: a mistake somewhere, and there is time to mend it."""

    reason = "UNREADABLE"
    retriable = True


@dataclass(frozen=True, slots=True)
class BackfillView:
    """What is owed, and what is done about it."""

    debts: tuple[Debt, ...]
    times: Times
    records_per_s: float
    records: int
    spared: frozenset[str]
    stopped_because: str


@dataclass(frozen=True, slots=True)
class BackfillRules:
    """How fast it goes, what it does not take for data, and by which classes it counts.

    What cannot be read is tried again after `probe_every_s`.
    """

    limits: Limits
    burst: BurstRule
    policy: PriorityPolicy
    probe_every_s: float = 30.0


class Backfiller(Actor):
    """Works the open ranges of the partitions that this writer reads."""

    name = "backfiller"

    def __init__(
        self,
        committer: MailboxActor[ToCommitter],
        ledgers: Ledgers,
        reader: BackfillReader,
        decoder: TradeDecoder,
        executor: Executor,
        times: Callable[[], Times],
        clock: Clock,
        rules: BackfillRules,
    ) -> None:
        self._committer = committer
        self._reader = reader
        self._decoder = decoder
        self._executor = executor
        self._times = times
        self._clock = clock
        self._rules = rules
        self._open = OpenRanges(ledgers, reader, clock, again_s=rules.probe_every_s)
        self._pace = Pace(rules.limits.records_per_s, rules.limits.least_records_per_s)
        self._done: deque[tuple[float, int]] = deque()
        self._now = Times()
        self._records = 0
        self._spared: frozenset[str] = frozenset()
        self._stopped_because = ""
        self._stopping = asyncio.Event()

    @property
    def spared(self) -> frozenset[str]:
        """The topics that are not put off any more, for retention is too near."""
        return self._open.spared

    @property
    def view(self) -> BackfillView:
        """Show how it stands now."""
        return BackfillView(
            self._open.debts,
            self._now,
            self._rate(),
            self._records,
            self._open.spared,
            self._stopped_because or self._open.unreadable_because,
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            measuring = tasks.create_task(self._measure())
            while not self._stopping.is_set():
                worked = await self._turn_or_say_why()
                wait_s = self._pace.wait_s(self._clock.monotonic_s())
                await self._nap(wait_s if worked else max(wait_s, LOOK_EVERY_S))
            measuring.cancel()

    async def stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        with suppress(K2Error):
            await self._reader.close()

    async def _turn_or_say_why(self) -> bool:
        try:
            worked = await self._turn()
        except (K2Error, KafkaError, OSError, TimeoutError) as error:
            why = str(error) or "Kafka does not answer"
            if why != self._stopped_because:
                log.warning("not_backfilling", why=why)
            self._stopped_because = why
            return False
        self._stopped_because = ""
        return worked

    async def _turn(self) -> bool:
        """Look what is owed, and work on a piece of it; false where there was none to work on."""
        times = self._now = self._times()
        await self._open.look(times)
        if await self._give_up(times):
            return True
        piece = plan.next_piece(self._open.readable, times)
        if piece is None:
            return False
        try:
            await self._work(piece)
        except UnreadableBatchError as error:
            self._open.set_aside((piece.position, piece.start), error)
        return True

    async def _give_up(self, times: Times) -> bool:
        """Record as lost what the log has forgotten; the committer raises the alarm."""
        ranges = {
            at: OffsetRange(*lost)
            for at, lost in plan.forgotten(self._open.debts, self._open.sights).items()
            if at in times.placed
        }
        if not ranges:
            return False
        await ask(self._committer, lambda reply: RecordLost(ranges, reply), timeout_s=ASK_TIMEOUT_S)
        return True

    async def _work(self, piece: Piece) -> None:
        found, sight = await self._reader.read(piece, self._open.sights[piece.position])
        await reach("backfill.after_fetch")
        self._open.note(piece.position, sight)
        self._pace = self._pace.after(
            found.read, at_ease=piece.at_ease, now_s=self._clock.monotonic_s()
        )
        part = await self._part(piece, found)
        if not piece.urgent:
            self._refuse_burst(part, found)
        flushed = await self._commit(part)
        if flushed is not None and flushed.snapshot_id:
            self._count(found)
            self._records += found.records
            self._done.append((self._clock.monotonic_s(), found.records))

    async def _part(self, piece: Piece, found: Found) -> Part:
        decode = partial(decode_all, self._decoder, found)
        chunks = await asyncio.get_running_loop().run_in_executor(self._executor, decode)
        return Part(
            (piece.position.topic, piece.position.partition),
            NO_GENERATION,
            piece.start,
            found.end,
            [chunk.batch for chunk in chunks if chunk.batch.num_rows],
            tuple(rejected for chunk in chunks for rejected in chunk.rejected),
        )

    def _refuse_burst(self, part: Part, found: Found) -> None:
        """Hold a burst of unreadable records as the live path does, as long as the log keeps them.

        Raises:
            UnreadableError: it is one.
        """
        broken, rule = broken_among(part.rejected), self._rules.burst
        batch = Batch(
            part.partition, NO_GENERATION, part.start, part.following, found.records, broken
        )
        if broken >= rule.records and rule.suspects(batch):
            self._pace = self._pace.resting(self._clock.monotonic_s() + AFTER_BURST_S)
            topic, number = part.partition
            raise UnreadableError(
                f"{broken} of {found.records} records from offset {part.start} of {topic} partition"
                f" {number} cannot be read: {part.rejected[-1].detail}"
            )

    async def _commit(self, part: Part) -> Flushed | None:
        """Wait for the commit for as long as it takes; None where the writer stops meanwhile."""
        done: asyncio.Future[Flushed] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        await self._committer.tell(Commit(uuid.uuid4().hex, (part,), done, Kind.BACKFILL))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((done, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        return done.result() if done.done() else None

    def _count(self, found: Found) -> None:
        for chunk in found.chunks:
            for priority, records in classes_in(chunk, self._rules.policy).items():
                metrics.BACKFILLED_RECORDS.labels(priority.value).inc(records)

    async def _measure(self) -> None:
        """Keep the alarms true, also while a piece takes its time."""
        while True:
            debts, spared = self._open.debts, self._open.spared
            for topic in spared - self._spared:
                log.error("retention_near", topic=topic, then="it is not put off any more")
            self._spared = spared
            metrics.BACKFILL_OPEN_RECORDS.set(sum(debt.shed.records for debt in debts))
            metrics.RETENTION_USED.set(max((debt.used for debt in debts), default=0.0))
            metrics.SPARED_TOPICS.set(len(spared))
            await asyncio.sleep(LOOK_EVERY_S)

    def _rate(self) -> float:
        since_s = self._clock.monotonic_s() - RATE_OVER_S
        while self._done and self._done[0][0] < since_s:
            self._done.popleft()
        return sum(records for _, records in self._done) / RATE_OVER_S

    async def _nap(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def decode_all(decoder: TradeDecoder, found: Found) -> list[Chunk]:
    """Decode what was found. Blocking."""
    return [decode_chunk(decoder, Split(chunk), enrich=True) for chunk in found.chunks]
