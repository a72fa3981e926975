"""The batcher: decodes what was fetched, gathers it, and hands it on as one commit at a time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from libs.degradation.level import Level
from libs.degradation.obedience import Applied
from libs.market.clock import Clock
from libs.runtime.actor import MailboxActor, answer, refuse
from libs.runtime.mailbox import Mailbox, MailboxClosedError
from libs.wire.trades import TradeDecoder
from services.writer import metrics
from services.writer.batching.buffer import Buffer, Chunk, Decision, FlushRule
from services.writer.batching.memory import give_back
from services.writer.batching.shedding import ShedRule, Split, split, with_symbols
from services.writer.intake.bursts import BROKEN, Batch, Bursts, Verdict, broken_among
from services.writer.intake.holds import Hold
from services.writer.intake.positions import Partition
from services.writer.messages import (
    Accept,
    Commit,
    Fetched,
    Flush,
    Flushed,
    Held,
    RawChunk,
    Released,
    ToBatcher,
    ToCommitter,
    ToConsumer,
)

log = structlog.get_logger()
R = TypeVar("R")

# Fetches that wait: each may hold as many records as one poll takes.
WAITING_FETCHES = 2
LAST_COMMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Decoded:
    """Up to where a placing of a partition is decoded."""

    generation: int
    following: int


def new_commit_id() -> str:
    return uuid.uuid4().hex


class Batcher(MailboxActor[ToBatcher]):
    """Holds the buffer. While a commit is under way the next buffer fills, and then it waits."""

    def __init__(
        self,
        committer: MailboxActor[ToCommitter],
        decoder: TradeDecoder,
        executor: Executor,
        rule: FlushRule,
        clock: Clock,
        levels: Callable[[], Applied],
        shed_rule: Callable[[Applied], ShedRule],
        bursts: Bursts,
        consumer: Mailbox[ToConsumer],
        commit_id: Callable[[], str] = new_commit_id,
    ) -> None:
        # What is handled twice is driven out by itself, and fenced at worst; what is lost would
        # be missed only with the next record of its partition.
        super().__init__("batcher", capacity=WAITING_FETCHES, redeliver=True)
        self._committer = committer
        self._decoder = decoder
        self._executor = executor
        self._rule = rule
        self._clock = clock
        self._levels = levels
        self._shed_rule = shed_rule
        self._bursts = bursts
        self._consumer = consumer
        self._commit_id = commit_id
        self._buffer = Buffer()
        self._memory_level = Level.NORMAL
        self._under_way: asyncio.Future[Flushed] | None = None
        self._ending = asyncio.Event()
        self.decoded: Mapping[Partition, Decoded] = {}

    @property
    def buffered_rows(self) -> int:
        return self._buffer.rows

    @property
    def drained(self) -> bool:
        """Say whether nothing is buffered or being committed."""
        return not self._buffer and not self._committing

    @property
    def busy(self) -> bool:
        """Say whether a commit is under way, or the buffer half full."""
        return self._committing or self._buffer.size_bytes * 2 > self._rule.after_bytes

    async def run(self) -> None:
        await super().run()
        await self._flush_last()

    async def stop(self) -> None:
        await super().stop()
        self._ending.set()

    async def handle(self, message: ToBatcher) -> None:
        await self._follow()
        match message:
            case Fetched():
                await self._decode(message.chunks)
            case Flush():
                await self._flush_for(message)
            case Accept():
                self._bursts.accept(message.partition, message.generation, message.until)
                # After what was held meanwhile: the consumer may have heard of it in between.
                await self._consumer.put(Released(message.partition, message.generation))
        await self._flush_if_due()
        metrics.BUFFERED_ROWS.set(self._buffer.rows)
        metrics.BUFFERED_BYTES.set(self._buffer.size_bytes)

    async def _decode(self, chunks: tuple[RawChunk, ...]) -> None:
        levels = self._levels()
        enrich = levels.level < Level.SOFT
        rule = self._shed_rule(levels)
        with metrics.DECODE_SECONDS.time():
            decoded = await self._blocking(
                partial(decode_all, self._decoder, chunks, rule, enrich=enrich)
            )
        for raw, chunk in zip(chunks, decoded, strict=True):
            await self._gather(raw, chunk)

    async def _gather(self, raw: RawChunk, chunk: Chunk) -> None:
        """Gather a chunk, or hold its partition where it is part of a burst."""
        watched, verdict = self._bursts.judge(batch_of(chunk))
        if verdict is Verdict.IGNORE:
            return
        reached = chunk.following
        if verdict is Verdict.HOLD:
            reached = chunk.start if watched.held_at is None else watched.held_at
            self._buffer.cut(chunk.partition, reached)
            await self._consumer.put(Held(hold_of(raw, chunk, reached)))
        else:
            now_s = self._clock.monotonic_s()
            metrics.OUTDATED_ROWS.inc(self._buffer.add(chunk, now_s=now_s))
        if verdict is Verdict.RELEASE:
            await self._consumer.put(Released(chunk.partition, chunk.generation))
        self._bursts.note(chunk.partition, watched)
        self.decoded = {**self.decoded, chunk.partition: Decoded(chunk.generation, reached)}

    async def _follow(self) -> None:
        """Do what a change of levels asks for once; all else goes by them as they are then."""
        levels = self._levels()
        before, self._memory_level = self._memory_level, levels.memory_level
        metrics.CIRCUIT_BREAK.set(levels.lag_level is Level.CIRCUIT_BREAK)
        if levels.memory_level > max(before, Level.GRACEFUL):
            if not self._committing:
                await self._flush()
            await self._blocking(give_back)

    async def _blocking(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def _flush_if_due(self) -> None:
        levels = self._levels()
        decision = self._rule.under(lag=levels.lag_level, memory=levels.memory_level).decide(
            size_bytes=self._buffer.size_bytes,
            age_s=self._buffer.age_s(self._clock.monotonic_s()),
            committing=self._committing,
        )
        if decision is Decision.HOLD:
            await self._commit_done()
        if decision is not Decision.GATHER:
            await self._flush()

    async def _flush(self) -> None:
        """Send the buffer on its way. The commit before is done by now, or given up."""
        if not self._buffer:
            return
        done: asyncio.Future[Flushed] = asyncio.get_running_loop().create_future()
        # A commit given up while stopping has nobody to tell.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        parts = self._buffer.take()
        self._bursts.flushed()
        await self._committer.tell(Commit(self._commit_id(), parts, done))
        self._under_way = done

    async def _flush_for(self, flush: Flush) -> None:
        """Commit everything, and answer when it is in the table."""
        before = self._under_way if self._committing else None
        if before is not None and self._buffer:
            await self._commit_done()
        await self._flush()
        latest = self._under_way
        if latest is None or (latest.done() and before is None):
            answer(flush.reply, Flushed())
            return
        latest.add_done_callback(lambda done: pass_on(done, flush.reply))

    async def _commit_done(self) -> None:
        """Wait for the commit under way, as long as it takes; when stopping, not so long."""
        if self._under_way is None:
            return
        ending: asyncio.Future[object] = asyncio.ensure_future(self._ending.wait())
        either = (self._under_way, ending)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({self._under_way}, timeout=LAST_COMMIT_S)
        finally:
            ending.cancel()

    async def _flush_last(self) -> None:
        """Commit what is left; what the table does not take now is read again after the start."""
        try:
            await self._commit_done()
            if not self._committing:
                await self._flush()
                await self._commit_done()
        except MailboxClosedError:
            log.warning("left_uncommitted", rows=self._buffer.rows)

    @property
    def _committing(self) -> bool:
        return self._under_way is not None and not self._under_way.done()


def decode_all(
    decoder: TradeDecoder, chunks: tuple[RawChunk, ...], rule: ShedRule, *, enrich: bool
) -> list[Chunk]:
    """Decode of one fetch what does not wait. Blocking."""
    return [decode_chunk(decoder, split(chunk, rule), enrich=enrich) for chunk in chunks]


def decode_chunk(decoder: TradeDecoder, parted: Split, *, enrich: bool) -> Chunk:
    chunk = parted.kept
    topic, partition = chunk.partition
    for priority, records in parted.put_off.items():
        metrics.SHED_RECORDS.labels(priority.value).inc(records)
    decoded = decoder.decode(
        chunk.values, topic=topic, partition=partition, offsets=chunk.offsets, enrich=enrich
    )
    return Chunk(
        chunk.partition,
        chunk.generation,
        chunk.start,
        chunk.following,
        decoded.batch,
        with_symbols(decoded.rejected, chunk),
        parted.shed,
    )


def batch_of(chunk: Chunk) -> Batch:
    return Batch(
        chunk.partition,
        chunk.generation,
        chunk.start,
        chunk.following,
        chunk.batch.num_rows + len(chunk.rejected),
        broken_among(chunk.rejected),
    )


def hold_of(raw: RawChunk, chunk: Chunk, start: int) -> Hold:
    """Say what is held: why, by the last of its records, and how long the log keeps it."""
    positions = max(1, raw.following - raw.start)
    last = next(one for one in reversed(chunk.rejected) if one.reason in BROKEN)
    return Hold(
        chunk.partition,
        chunk.generation,
        start,
        broken_among(chunk.rejected),
        f"{last.reason.value}: {last.detail}",
        raw.appended_ms,
        raw.stored_bytes / positions,
    )


def pass_on(done: asyncio.Future[Flushed], reply: asyncio.Future[Flushed]) -> None:
    """Answer with what another future was answered."""
    error = done.exception()
    if error is None:
        answer(reply, done.result())
    elif isinstance(error, Exception):
        refuse(reply, error)
