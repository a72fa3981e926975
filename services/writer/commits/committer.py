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
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import structlog

from libs.lake.commits.commit import Kind, LakeFile, Overlap, Prepared
from libs.lake.commits.committer import Fenced, Landed
from libs.lake.commits.seam import TopicPartition
from libs.market.clock import Clock
from libs.market.errors import K2Error, UnavailableError
from libs.runtime.actor import MailboxActor, answer, refuse
from libs.runtime.faultpoint import reach
from libs.runtime.mailbox import Mailbox, MailboxClosedError
from services.writer import metrics
from services.writer.batching.buffer import Part
from services.writer.batching.memory import give_back
from services.writer.commits.outside import DeadLetters, Table
from services.writer.commits.preparing import prepare, with_conflicts
from services.writer.commits.tally import CommitterView, Tally
from services.writer.commits.tracing import attempt_span, commit_span, say_outcome
from services.writer.messages import (
    Commit,
    DeclareHoles,
    FencedOff,
    FindRows,
    Flushed,
    ReadLedger,
    ReadTable,
    RecordLost,
    TableState,
    ToCommitter,
    ToConsumer,
)

log = structlog.get_logger()
R = TypeVar("R")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
TELL_AGAIN_S = 0.02


class StoppingError(UnavailableError):
    """The writer stops, and the table does not take this buffer: Kafka still has it."""

    reason = "STOPPING"


class HeldError(K2Error):
    """What was declared missing at the venue is in the table."""

    reason = "HELD"
    code = "FAILED_PRECONDITION"


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
        self._tally = Tally(clock)

    @property
    def view(self) -> CommitterView:
        return self._tally.view

    async def stop(self) -> None:
        await super().stop()
        self._ending.set()

    async def handle(self, message: ToCommitter) -> None:
        match message:
            case Commit():
                await answer_with(message.done, self._commit(message), step="commit")
            case ReadTable() if not message.reply.done():
                await answer_with(message.reply, self._read())
            case FindRows() if not message.reply.done():
                rows_at = partial(self._table.rows_at, message.offsets)
                await answer_with(message.reply, self._blocking(rows_at))
            case RecordLost():
                lost = self._record_lost(message)
                await answer_with(message.reply, lost, step="record a loss")
            case ReadLedger() if not message.reply.done():
                read = partial(self._table.ledger, message.snapshot_id)
                await answer_with(message.reply, self._blocking(read))
            case DeclareHoles() if not message.reply.done():
                await answer_with(message.reply, self._declare(message))

    async def _read(self) -> TableState:
        state = await self._blocking(self._table.state)
        offsets = {
            TopicPartition(topic, partition): offset
            for topic, partitions in state.seam.items()
            for partition, offset in partitions.items()
        }
        self._tally.show(offsets=offsets)
        return state

    async def _commit(self, message: Commit) -> Flushed:
        with commit_span(message) as span, metrics.COMMIT_SECONDS.time():
            await self._persist("write data files", lambda: self._write(message))
            await reach(f"{worker_of(message.kind)}.after_upload")
            outcome = await self._land(message)
            say_outcome(span, message, outcome)
        await self._tell_fenced(message.parts, outcome)
        await self._blocking(give_back)
        self._tally.conclude(message, outcome)
        return flushed_by(outcome)

    async def _land(self, message: Commit) -> Landed | Fenced:
        """Commit, and where the table holds some of the trades by now, again without those."""
        while True:
            await self._persist(
                "dead-letter", lambda: self._dead_letters.send(with_conflicts(message))
            )
            await reach("writer.after_dead_letters")
            prepared = prepare(message, self._cluster_id, now_us=self._clock.now_us())
            outcome = await self._persist("commit", partial(self._send, prepared))
            if not isinstance(outcome, Overlap):
                return outcome
            await self._persist("write data files", partial(self._rewrite, message, outcome.files))

    async def _record_lost(self, message: RecordLost) -> Flushed:
        prepared = Prepared(
            f"lost-{random.getrandbits(96):024x}",
            message.ranges,
            kind=Kind.LOST,
            cluster_id=self._cluster_id,
        )
        # To the end, though nobody may wait any more: another commit could not tell what this lost.
        outcome = await self._persist("record a loss", lambda: self._send(prepared))
        if not isinstance(outcome, Landed):
            return Flushed()
        self._tally.lost(outcome)
        return Flushed(outcome.snapshot_id)

    async def _write(self, message: Commit) -> None:
        """Write what is not written yet, one part after the other."""
        for part in message.parts:
            batches = part.batches.copy()
            if batches:
                write = partial(self._table.write, batches, message.files)
                message.written[TopicPartition(*part.partition)] = await self._blocking(write)
                part.batches.clear()

    async def _rewrite(self, message: Commit, files: Iterable[LakeFile]) -> None:
        """Write files anew that are not yet, each beside all the others."""
        for file in files:
            beside = [other for other in message.files if other is not file]
            if len(beside) < len(message.files):
                anew = await self._blocking(partial(self._table.rewrite, file, beside))
                written = message.written[file.position]
                message.written[file.position] = written.with_file_replaced(file, anew)

    async def _declare(self, message: DeclareHoles) -> Flushed:
        prepared = Prepared(
            f"venue-{random.getrandbits(96):024x}",
            {},
            kind=Kind.VENUE,
            cluster_id=self._cluster_id,
            holes=message.holes,
        )
        try:
            outcome = await self._send(prepared)
        except OSError as error:
            raise UnavailableError(f"the hole cannot be recorded: {error}") from error
        if not isinstance(outcome, Landed):
            raise HeldError("some of these ids are in the table: they are no hole")
        return Flushed(outcome.snapshot_id)

    async def _send(self, prepared: Prepared) -> Landed | Fenced | Overlap:
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
                with attempt_span(step):
                    result = await attempt()
            except (K2Error, OSError) as error:
                failures += 1
                self._tally.failed(step, error)
            else:
                self._tally.succeeded()
                return result
            if self._ending.is_set():
                raise StoppingError(f"stopped before it could {step}")
            await self._back_off(failures)

    async def _back_off(self, failures: int) -> None:
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures - 1, 10))
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s * random.uniform(0.5, 1)):  # noqa: S311 (jitter)
                await self._ending.wait()

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


async def answer_with(reply: asyncio.Future[R], work: Awaitable[R], *, step: str = "") -> None:
    """Answer with what the work returns, or refuse with what it raises.

    Of a `step` that nobody may wait for any more the log says that it was given up.
    """
    try:
        answer(reply, await work)
    except K2Error as error:
        refuse(reply, error)
        if step and not isinstance(error, StoppingError):
            log.error("given_up", step=step, error=error.message, reason=error.reason)  # noqa: TRY400


def worker_of(kind: Kind) -> str:
    """Return by whose name the points of a commit go."""
    return "backfill" if kind is Kind.BACKFILL else "writer"


def flushed_by(outcome: Landed | Fenced) -> Flushed:
    if isinstance(outcome, Fenced):
        return Flushed()
    return Flushed(outcome.snapshot_id, outcome.rows)
