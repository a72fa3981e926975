"""The committer: one buffer at a time into the table, tried until it is there or fenced.

1. Write the data files, on the disk when done.
2. Send rejected records to the dead letters and wait until Kafka has them: nothing passes them by
   before.
3. Commit with the buffer's own commit-id. An outcome that is not known is asked again with the
   same id; the table answers it.
4. Tell the consumer of the partitions that were fenced: it reads on where the table says.

While a step fails (catalog away, disk full) the buffer stays, nothing more is taken, and the
consumer holds: memory is bounded by this buffer and the next.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import pyarrow as pa
import structlog

from libs.lake.commit import Kind, LakeFile, Prepared
from libs.lake.committer import Fenced, Landed
from libs.lake.ledger import Account
from libs.lake.seam import OffsetRange, TopicPartition
from libs.market.clock import Clock
from libs.market.errors import K2Error, UnavailableError
from libs.runtime.actor import MailboxActor, answer, refuse
from libs.runtime.faultpoint import reach
from libs.runtime.mailbox import Mailbox, MailboxClosedError
from libs.telemetry.tracing import tracer
from services.writer import metrics
from services.writer.buffer import Part
from services.writer.memory import give_back
from services.writer.messages import (
    Commit,
    FencedOff,
    FindRows,
    Flushed,
    ReadTable,
    RecordLost,
    StoredRow,
    TableState,
    ToCommitter,
    ToConsumer,
)

log = structlog.get_logger()
spans = tracer("k2.writer")
R = TypeVar("R")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
TELL_AGAIN_S = 0.02


class StoppingError(UnavailableError):
    """The writer stops, and the table does not take this buffer: Kafka still has it."""

    reason = "STOPPING"


class Table(Protocol):
    """What the committer needs of the lake. Blocking."""

    def state(self) -> TableState:
        """Raises UnavailableError, MissingSeamError."""
        ...

    def rows_at(self, offsets: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, StoredRow]:
        """Return those that are stored. Raises UnavailableError."""
        ...

    def write(self, batches: list[pa.RecordBatch]) -> list[LakeFile]:
        """Raises OSError, UnavailableError."""
        ...

    def commit(self, prepared: Prepared) -> Landed | Fenced:
        """Raises UnavailableError, ConflictError where another try makes sense."""
        ...


class DeadLetters(Protocol):
    """Where records go that are no trades."""

    async def send(self, parts: tuple[Part, ...]) -> None:
        """Raises UnavailableError."""
        ...


@dataclass(frozen=True, slots=True)
class CommitterView:
    """What the committer has done so far, and why it does nothing now."""

    rows: int = 0
    commits: int = 0
    dead_lettered: int = 0
    lost: int = 0
    failures: int = 0
    snapshot_id: int = 0
    commit_time_us: int = 0
    stopped_because: str = ""
    offsets: Mapping[TopicPartition, int] | None = None


class TableCommitter(MailboxActor[ToCommitter]):
    """The only one that writes to the table."""

    def __init__(
        self,
        table: Table,
        dead_letters: DeadLetters,
        consumer: Mailbox[ToConsumer],
        executor: Executor,
        clock: Clock,
        *,
        cluster_id: str,
    ) -> None:
        super().__init__("committer", capacity=16, redeliver=True)
        self._table = table
        self._dead_letters = dead_letters
        self._consumer = consumer
        self._executor = executor
        self._clock = clock
        self._cluster_id = cluster_id
        self._ending = asyncio.Event()
        # Where a commit is handled again after a failure, it is counted once.
        self._concluded = ""
        self.view = CommitterView()

    async def stop(self) -> None:
        await super().stop()
        self._ending.set()

    async def handle(self, message: ToCommitter) -> None:
        match message:
            case Commit():
                await answer_with(message.done, self._commit(message))
            case ReadTable() if not message.reply.done():
                await answer_with(message.reply, self._read())
            case FindRows() if not message.reply.done():
                rows_at = partial(self._table.rows_at, message.offsets)
                await answer_with(message.reply, self._blocking(rows_at))
            case RecordLost():
                await answer_with(message.reply, self._record_lost(message))

    async def _read(self) -> TableState:
        state = await self._blocking(self._table.state)
        offsets = {
            TopicPartition(topic, partition): offset
            for topic, partitions in state.seam.items()
            for partition, offset in partitions.items()
        }
        self._show(offsets=offsets)
        return state

    async def _commit(self, message: Commit) -> Flushed:
        with spans.start_as_current_span("commit") as span, metrics.COMMIT_SECONDS.time():
            await self._persist("write data files", lambda: self._write(message))
            await reach("writer.after_upload")
            await self._persist("dead-letter", lambda: self._dead_letters.send(message.parts))
            await reach("writer.after_dead_letters")
            prepared = prepare(message, self._cluster_id)
            outcome = await self._persist("commit", lambda: self._send(prepared))
            span.set_attributes({"k2.commit_id": message.commit_id, "k2.files": len(message.files)})
        await self._tell_fenced(message.parts, outcome)
        await self._blocking(give_back)
        return self._conclude(message, outcome)

    async def _record_lost(self, message: RecordLost) -> Flushed:
        prepared = Prepared(
            f"lost-{random.getrandbits(96):024x}",
            message.ranges,
            kind=Kind.LOST,
            cluster_id=self._cluster_id,
        )
        # To the end, though nobody may wait any more: another commit could not tell what this lost.
        outcome = await self._persist("record a loss", lambda: self._send(prepared))
        if isinstance(outcome, Fenced):
            return Flushed()
        lost = sum(end - start for start, end in outcome.ranges.values())
        self._show(lost=self.view.lost + lost, snapshot_id=outcome.snapshot_id)
        for partition, covered in outcome.ranges.items():
            alarm_lost(partition, covered)
        return Flushed(outcome.snapshot_id)

    async def _write(self, message: Commit) -> None:
        """Write what is not written yet, one part after the other."""
        for part in message.parts:
            batches = part.batches.copy()
            if batches:
                files = await self._blocking(partial(self._table.write, batches))
                message.files.extend(files)
                part.batches.clear()

    async def _send(self, prepared: Prepared) -> Landed | Fenced:
        return await self._blocking(lambda: self._table.commit(prepared))

    async def _blocking(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def _persist(self, step: str, attempt: Callable[[], Awaitable[R]]) -> R:
        """Try a step until it succeeds, saying meanwhile why nothing is committed.

        Raises:
            StoppingError: it failed, and the writer stops.
        """
        failures = 0
        while True:
            try:
                result = await attempt()
            except (K2Error, OSError) as error:
                failures += 1
                self._failed(step, error)
            else:
                self._show(stopped_because="", failures=0)
                return result
            if self._ending.is_set():
                raise StoppingError(f"stopped before it could {step}")
            await self._back_off(failures)

    async def _back_off(self, failures: int) -> None:
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures - 1, 10))
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s * random.uniform(0.5, 1)):  # noqa: S311 (jitter)
                await self._ending.wait()

    def _failed(self, step: str, error: K2Error | OSError) -> None:
        why = f"cannot {step}: {error}"
        if why != self.view.stopped_because:
            log.error("not_committing", step=step, error=str(error))
        self._show(stopped_because=why, failures=self.view.failures + 1)

    async def _tell_fenced(self, parts: tuple[Part, ...], outcome: Landed | Fenced) -> None:
        fenced = outcome.offsets if isinstance(outcome, Fenced) else outcome.fenced
        if not fenced:
            return
        metrics.FENCED_PARTITIONS.inc(len(fenced))
        log.warning("fenced", partitions=[list(p) for p in fenced], offsets=list(fenced.values()))
        generations = {p.partition: p.generation for p in parts if p.partition in fenced}
        with suppress(MailboxClosedError):
            while not self._consumer.offer(FencedOff(generations)) and not self._ending.is_set():
                await asyncio.sleep(TELL_AGAIN_S)

    def _conclude(self, message: Commit, outcome: Landed | Fenced) -> Flushed:
        fenced = outcome.offsets if isinstance(outcome, Fenced) else outcome.fenced
        if message.commit_id == self._concluded:
            return flushed_by(outcome)
        self._concluded = message.commit_id
        self._count_dead_letters(message, outcome)
        known = {**(self.view.offsets or {}), **fenced}
        metrics.COMMITS.labels("fenced" if isinstance(outcome, Fenced) else "landed").inc()
        if isinstance(outcome, Fenced):
            self._show(offsets=known)
            return flushed_by(outcome)
        metrics.COMMITTED_ROWS.inc(outcome.rows)
        log.info("commit_landed", snapshot_id=outcome.snapshot_id, rows=outcome.rows)
        self._show(
            rows=self.view.rows + outcome.rows,
            commits=self.view.commits + 1,
            snapshot_id=outcome.snapshot_id,
            commit_time_us=self._clock.now_us(),
            offsets={**known, **{p: covered.end for p, covered in outcome.ranges.items()}},
        )
        return flushed_by(outcome)

    def _count_dead_letters(self, message: Commit, outcome: Landed | Fenced) -> None:
        """Count those whose commit landed: what was fenced is read again, and counted there."""
        landed = {} if isinstance(outcome, Fenced) else outcome.ranges
        parts = [part for part in message.parts if TopicPartition(*part.partition) in landed]
        letters = [rejected for part in parts for rejected in part.rejected]
        for rejected in letters:
            metrics.DEAD_LETTERED.labels(rejected.reason.value).inc()
        self._show(dead_lettered=self.view.dead_lettered + len(letters))

    def _show(self, **changes: object) -> None:
        self.view = replace(self.view, **changes)  # type: ignore[arg-type]
        metrics.COMMIT_FAILURES.set(self.view.failures)


async def answer_with(reply: asyncio.Future[R], work: Awaitable[R]) -> None:
    """Answer with what the work returns, or refuse with what it raises."""
    try:
        answer(reply, await work)
    except K2Error as error:
        refuse(reply, error)


def flushed_by(outcome: Landed | Fenced) -> Flushed:
    if isinstance(outcome, Fenced):
        return Flushed()
    return Flushed(outcome.snapshot_id, outcome.rows)


def alarm_lost(partition: TopicPartition, covered: OffsetRange) -> None:
    metrics.LOST_RECORDS.inc(covered.end - covered.start)
    log.error(
        "records_lost",
        topic=partition.topic,
        partition=partition.partition,
        from_offset=covered.start,
        to_offset=covered.end,
        why="retention took them before they were read",
    )


def prepare(message: Commit, cluster_id: str) -> Prepared:
    """Put a buffer's parts and files into the form that the commit's fence is checked by."""
    ranges = {
        TopicPartition(*part.partition): OffsetRange(part.start, part.following)
        for part in message.parts
    }
    return Prepared(
        message.commit_id,
        ranges,
        tuple(message.files),
        cluster_id=cluster_id,
        accounts={
            TopicPartition(*part.partition): Account(shed=part.shed) for part in message.parts
        },
    )
