"""The backfiller: writes what was put off, when there is nothing better to do or no more time.

One piece at a time: read it beside the group, decode what the range owes and nothing else, and
have the committer write it with a commit that closes the piece. The fence is the table's: where
another writer closed it meanwhile, the commit is refused and nothing is doubled.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import structlog
from aiokafka.errors import KafkaError

from libs.kafka.admin import Retention
from libs.lake.commit import Kind
from libs.lake.ledger import Ledger
from libs.lake.seam import OffsetRange, TopicPartition
from libs.market.clock import Clock
from libs.market.errors import K2Error
from libs.runtime.actor import Actor, MailboxActor, ask
from libs.runtime.faultpoint import reach
from libs.wire.trades import TradeDecoder
from services.writer import backfill_plan as plan
from services.writer import metrics
from services.writer.backfill_plan import Debt, Limits, LogSight, Pace, Piece, Times
from services.writer.backfill_reader import NO_GENERATION, BackfillReader, Found
from services.writer.batcher import decode_chunk
from services.writer.buffer import Chunk, Part
from services.writer.messages import Commit, Flushed, HeadLedger, RecordLost, ToCommitter
from services.writer.shedding import Split

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
ASK_TIMEOUT_S = 30.0
RETENTION_EVERY_S = 60.0
# So many ranges are looked at a turn that nobody has dated yet.
PEEKS_A_TURN = 4
RATE_OVER_S = 30.0


@dataclass(frozen=True, slots=True)
class BackfillView:
    """What is owed, and what is done about it."""

    debts: tuple[Debt, ...] = ()
    times: Times = field(default_factory=Times)
    records_per_s: float = 0.0
    records: int = 0
    spared: frozenset[str] = frozenset()
    stopped_because: str = ""


class Ledgers(Protocol):
    """Where the head's ledger is read."""

    async def ledger(self) -> HeadLedger:
        """Raises UnavailableError, MissingLedgerError."""
        ...


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
        limits: Limits | None = None,
    ) -> None:
        self._committer = committer
        self._ledgers = ledgers
        self._reader = reader
        self._decoder = decoder
        self._executor = executor
        self._times = times
        self._clock = clock
        limits = limits or Limits()
        self._pace = Pace(limits.records_per_s, limits.least_records_per_s)
        self._sights: Mapping[TopicPartition, LogSight] = {}
        self._retentions: Mapping[str, Retention] = {}
        self._retention_at_s = float("-inf")
        self._done: deque[tuple[float, int]] = deque()
        self._stopping = asyncio.Event()
        self.view = BackfillView()

    async def run(self) -> None:
        while not self._stopping.is_set():
            worked = await self._turn_or_say_why()
            wait_s = self._pace.wait_s(self._clock.monotonic_s())
            await self._nap(wait_s if worked else max(wait_s, LOOK_EVERY_S))

    async def stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        with suppress(K2Error):
            await self._reader.close()

    async def _turn_or_say_why(self) -> bool:
        try:
            worked = await self._turn()
        except (K2Error, KafkaError, TimeoutError) as error:
            why = str(error) or "Kafka does not answer"
            if why != self.view.stopped_because:
                log.warning("not_backfilling", why=why)
            self.view = replace(self.view, stopped_because=why)
            return False
        self.view = replace(self.view, stopped_because="")
        return worked

    async def _turn(self) -> bool:
        """Look what is owed, and work on a piece of it; false where there was none to work on."""
        times = self._times()
        debts = await self._debts(times)
        self._show(debts, times)
        if await self._give_up(debts, times):
            return True
        piece = plan.next_piece(debts, times)
        if piece is None:
            return False
        await self._work(piece, at_ease=piece.most_records == plan.PIECE_RECORDS)
        return True

    async def _debts(self, times: Times) -> tuple[Debt, ...]:
        head = await self._ledgers.ledger()
        owed = {at: book.shed for at, book in head.ledger.partitions.items() if book.shed}
        if not owed:
            self._sights = {}
            await self._reader.close()
            return ()
        await self._look(head.ledger, times)
        return plan.debts_of(head.ledger, self._sights, self._retentions, self._clock.now_us())

    async def _look(self, ledger: Ledger, times: Times) -> None:
        """See how the log stands, and when it took the ranges that nobody has dated yet."""
        starts = {at: [s.start for s in book.shed] for at, book in ledger.partitions.items()}
        owed = {at: some for at, some in starts.items() if some}
        await self._read_retentions({at.topic for at in owed})
        sights = await self._reader.look(owed, plan.without_past(self._sights, owed))
        self._sights = sights
        undated = [
            (at, start)
            for at, some in owed.items()
            for start in some
            if at in times.placed
            and start not in sights[at].appended_ms
            and start >= sights[at].start
        ]
        for at, start in undated[:PEEKS_A_TURN]:
            sight = await self._reader.peek(at, start, self._sights[at])
            self._sights = {**self._sights, at: sight}

    async def _read_retentions(self, topics: set[str]) -> None:
        now_s = self._clock.monotonic_s()
        if topics <= self._retentions.keys() and now_s < self._retention_at_s + RETENTION_EVERY_S:
            return
        self._retentions = await self._reader.retention(topics)
        self._retention_at_s = now_s

    async def _give_up(self, debts: tuple[Debt, ...], times: Times) -> bool:
        """Record as lost what the log has forgotten; the committer raises the alarm."""
        ranges = {
            at: OffsetRange(*lost)
            for at, lost in plan.forgotten(debts, self._sights).items()
            if at in times.placed
        }
        if not ranges:
            return False
        await ask(self._committer, lambda reply: RecordLost(ranges, reply), timeout_s=ASK_TIMEOUT_S)
        return True

    async def _work(self, piece: Piece, *, at_ease: bool) -> None:
        found, sight = await self._reader.read(piece, self._sights[piece.position])
        await reach("backfill.after_fetch")
        self._sights = {**self._sights, piece.position: sight}
        now_s = self._clock.monotonic_s()
        self._pace = self._pace.after(found.read, at_ease=at_ease, now_s=now_s)
        flushed = await self._commit(await self._part(piece, found))
        if flushed is not None and flushed.snapshot_id:
            self._count(found.records, now_s)

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

    def _count(self, records: int, now_s: float) -> None:
        metrics.BACKFILLED_RECORDS.inc(records)
        self._done.append((now_s, records))
        self.view = replace(self.view, records=self.view.records + records)

    def _show(self, debts: tuple[Debt, ...], times: Times) -> None:
        spared = plan.spared(debts)
        for topic in spared - self.view.spared:
            log.error("retention_near", topic=topic, because="it is not put off any more")
        metrics.BACKFILL_OPEN_RECORDS.set(sum(debt.shed.records for debt in debts))
        metrics.RETENTION_USED.set(max((debt.used for debt in debts), default=0.0))
        metrics.SPARED_TOPICS.set(len(spared))
        self.view = replace(
            self.view, debts=debts, times=times, spared=spared, records_per_s=self._rate()
        )

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
