"""The backfill's own eyes on the log: a consumer beside the group, with its own client id."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from libs.kafka.admin import Retention, retention_of
from libs.kafka.client import start_consumer, stop_client
from libs.kafka.deadline import deadline, unreachable
from libs.kafka.runs import Run, deliver_runs
from libs.kafka.unreadable import UnreadableBatchError
from libs.lake.commits.seam import TopicPartition
from services.writer.backfill.plan import LogSight, Piece
from services.writer.batching.shedding import only
from services.writer.messages import RawChunk

READ_TIMEOUT_S = 30.0
# Less than a writer that stops waits for its actors.
STALLED_S = 10.0
POLL_MS = 200
# Nobody is to be fenced by it, and no position of the group is touched.
NO_GENERATION = -1
RUNS_A_POLL = 2


@dataclass(frozen=True, slots=True)
class Found:
    """What was read of a piece: its records in chunks, and up to where it was looked for them."""

    chunks: tuple[RawChunk, ...]
    end: int
    read: int

    @property
    def records(self) -> int:
        return sum(len(chunk.offsets) for chunk in self.chunks)


class BackfillReader:
    """Reads pieces, and what it costs to know how near retention is. Opens with the first use."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._kafka: AIOKafkaConsumer | None = None

    async def close(self) -> None:
        kafka, self._kafka = self._kafka, None
        if kafka is not None:
            await stop_client(kafka)

    async def retention(self, topics: Iterable[str]) -> Mapping[str, Retention]:
        """Raises UnavailableError."""
        return await retention_of(self._bootstrap, topics, timeout_s=READ_TIMEOUT_S)

    async def look(
        self,
        positions: Iterable[TopicPartition],
        before: Mapping[TopicPartition, LogSight],
    ) -> dict[TopicPartition, LogSight]:
        """See where each log begins and ends. Raises UnavailableError, KafkaError."""
        kafka = await self._started()
        partitions = {KafkaPartition(*position): position for position in positions}
        async with deadline(unreachable(self._bootstrap), READ_TIMEOUT_S):
            starts = await kafka.beginning_offsets(list(partitions))
            ends = await kafka.end_offsets(list(partitions))
        return {
            position: replace(before.get(position, LogSight(0, 0)), start=starts[tp], end=ends[tp])
            for tp, position in partitions.items()
        }

    async def peek(self, position: TopicPartition, offset: int, sight: LogSight) -> LogSight:
        """See when the log took what stands at an offset. Raises as `look`."""
        async with aclosing(self._runs(position, offset, offset + 1)) as runs:
            async for run in runs:
                return seen(sight, run, at=offset)
        return sight

    async def read(self, piece: Piece, sight: LogSight) -> tuple[Found, LogSight]:
        """Read a piece: to its end, or until it has as many records as it may.

        Raises:
            UnreadableBatchError: it begins with a record batch that is none; else as `look`.
        """
        found = Found((), piece.start, 0)
        try:
            async with aclosing(self._runs(piece.position, piece.start, piece.end)) as runs:
                async for run in runs:
                    chunk = owed(piece, run, found.end)
                    read = found.read + len(run.offsets)
                    found = Found((*found.chunks, chunk), chunk.following, read)
                    sight = seen(sight, run, at=found.end)
                    if found.records >= piece.most_records:
                        return found, sight
        except UnreadableBatchError:
            if not found.chunks:
                raise
            return found, sight
        # Behind the last record there may be markers of transactions alone.
        return replace(found, end=piece.end), sight

    async def _runs(
        self, position: TopicPartition, start: int, end: int
    ) -> AsyncGenerator[Run, None]:
        """Yield what stands in [start, end); the last run may go beyond."""
        kafka, tp = await self._started(), KafkaPartition(*position)
        kafka.assign([tp])
        kafka.seek(tp, start)
        at = start
        while at < end:
            async with deadline(unreachable(self._bootstrap), STALLED_S):
                runs, at = await further(kafka, tp, at)
            for run in runs:
                if run.start < end:
                    yield run

    async def _started(self) -> AIOKafkaConsumer:
        if self._kafka is None:
            kafka = await start_consumer(self._bootstrap, self._client_id)
            deliver_runs(kafka)
            self._kafka = kafka
        return self._kafka


async def further(
    kafka: AIOKafkaConsumer, tp: KafkaPartition, before: int
) -> tuple[Sequence[Run], int]:
    """Read on, until there is something or the position has moved; return both."""
    while True:
        found = await kafka.getmany(tp, timeout_ms=POLL_MS, max_records=RUNS_A_POLL)
        at = await kafka.position(tp)
        if found or at > before:
            return found.get(tp, ()), at


def owed(piece: Piece, run: Run, start: int) -> RawChunk:
    """Return what a run holds of a piece: the records that were put off, no others."""
    following = min(run.following, piece.end)
    whole = RawChunk(
        (piece.position.topic, piece.position.partition),
        NO_GENERATION,
        start,
        following,
        run.offsets,
        run.values,
        (run.keys,),
    )
    return only(whole, piece.symbols)


def seen(sight: LogSight, run: Run, *, at: int) -> LogSight:
    """Remember when the log took a position, at the latest what a run says, and what it takes."""
    per_position = run.stored_bytes / max(1, run.following - run.start)
    return replace(
        sight,
        bytes_per_position=per_position,
        appended_ms={**sight.appended_ms, at: run.appended_ms},
    )
