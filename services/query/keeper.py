"""The one who changes the state: takes in what was committed and what was read, publishes.

Everything a query sees passes here in one order, so that a state is always whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import structlog
from prometheus_client import Counter, Gauge
from pyiceberg.table import Table

from libs.lake.files.index import SnapshotIndex
from libs.lake.ledger.coverage import Counts
from libs.market.clock import Clock
from libs.market.errors import UnavailableError
from libs.runtime.actor import MailboxActor
from services.query.completeness.missing import Partition, Span
from services.query.completeness.undecoded import Undecoded
from services.query.freshness import Freshness
from services.query.offsets import Offsets, offset_at, without
from services.query.state import Board, State
from services.query.tail.chunk import Chunk, ints
from services.query.tail.spill import spilled
from services.query.tail.tail import EMPTY_TAIL, appended, lightened, truncated, with_shed

log = structlog.get_logger()

GIB = 2**30
HELD_BYTES = 8 * GIB

TAIL_ROWS = Gauge("k2_query_tail_rows", "Rows of the tail: read from Kafka, not yet in Iceberg")
HELD_ROWS = Gauge("k2_query_held_rows", "Shed rows that are kept until they are stored")
DUPLICATES = Counter(
    "k2_query_duplicate_rows", "Re-sent trades that the tail left out", ["exchange", "symbol"]
)
TAIL_BYTES = Gauge("k2_query_tail_bytes", "Size of the tail, in memory and on disk", ["where"])
ROWS_READ = Counter("k2_query_read_rows", "Rows the tail has taken in from Kafka")
LACKING = Gauge("k2_query_lacking_offsets", "Offsets past the seam that are not in the tail")


@dataclass(frozen=True, slots=True)
class Committed:
    """The catalog has a new head."""

    index: SnapshotIndex
    table: Table | None


@dataclass(frozen=True, slots=True)
class Read:
    """A stretch of a topic was read: its rows, if any, and per partition what it spans."""

    topic: str
    chunk: Chunk | None
    spans: Mapping[int, Span]
    log_ends: Mapping[int, int]
    undecoded: Undecoded = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the log ended when the tail began: the service is ready once it has read so far."""

    ends: Offsets


@dataclass(frozen=True, slots=True)
class Unreadable:
    """All partitions whose next record batch is none: to be ready is not to wait for it."""

    partitions: frozenset[Partition]


@dataclass(frozen=True, slots=True)
class Checked:
    """The log was compared with the table: partitions that have another one, if any.

    Of those, what was read at or past `good` may be of that other log.
    """

    refused: frozenset[Partition]
    good: Offsets


@dataclass(frozen=True, slots=True)
class Reached:
    """Kafka tells the end of the log again, or does not any more."""

    reached: bool


@dataclass(frozen=True, slots=True)
class ReadShed:
    """Shed rows below the seam were read back, those of a stretch of some partitions."""

    topic: str
    chunk: Chunk | None
    spans: Mapping[int, Span]
    undecoded: Undecoded = field(default_factory=dict)


Growth = Committed | Read | ReadShed
Told = Growth | Checked | Reached | Unreadable
Change = Told | Target


class Keeper(MailboxActor[Change]):
    """Owns the state; a change is computed in its own thread and published whole."""

    def __init__(
        self,
        board: Board,
        clock: Clock,
        *,
        memory_bytes: int,
        spill_dir: Path,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        super().__init__("keeper", capacity=16, redeliver=True)
        self.freshness = Freshness()
        self.newest_ingest_us = 0
        self._board = board
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._spill_dir = spill_dir
        self._held_bytes = held_bytes
        self._target: Offsets | None = None
        self._caught_up = False
        self._dropped: Counts = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="keeper")

    @property
    def caught_up(self) -> bool:
        """True for good once the tail has reached the ends seen at start."""
        return self._caught_up

    async def handle(self, message: Change) -> None:
        if isinstance(message, Target):
            self._target = self._target or message.ends
        else:
            loop = asyncio.get_running_loop()
            state = await loop.run_in_executor(self._worker, self._after, message)
            self._board.publish(state)
            self._observe(state, message)
        self._look_whether_caught_up()

    def release(self) -> None:
        self._worker.shutdown()

    def _after(self, message: Told) -> State:
        if isinstance(message, Checked):
            return after_check(self._board.state, message)
        if isinstance(message, Reached):
            return self._board.state.told(reached=message.reached)
        if isinstance(message, Unreadable):
            return self._board.state.reading_all_but(message.partitions)
        return self._bounded(after_growth(self._board.published, message))

    def _bounded(self, state: State) -> State:
        """Keep what is in memory, and what is held, within their bounds."""
        tail = lightened(state.tail, state.seam, held_bytes=self._held_bytes)
        tail = spilled(tail, memory_bytes=self._memory_bytes, folder=self._spill_dir)
        return state if tail is state.tail else replace(state, tail=tail)

    def _look_whether_caught_up(self) -> None:
        state = self._board.published
        if self._caught_up or state is None or self._target is None:
            return
        self._caught_up = state.reaches(without(self._target, state.unreadable))
        if self._caught_up:
            log.info("tail_caught_up", rows=state.tail.rows, snapshot_id=state.index.snapshot_id)

    def _observe(self, state: State, message: Told) -> None:
        observe(state)
        self._count_dropped(state.tail.dropped)
        if isinstance(message, Committed):
            log.debug("state_published", snapshot_id=state.index.snapshot_id)
        elif isinstance(message, Read) and message.chunk is not None:
            ROWS_READ.inc(message.chunk.rows)
            received_us = ints(message.chunk.batch["ingest_timestamp"])
            self.newest_ingest_us = max(self.newest_ingest_us, int(received_us.max()))
            if self._caught_up:
                ages_us = self._clock.now_us() - received_us
                self.freshness.saw(np.maximum(ages_us, 0), self._clock.monotonic_s())

    def _count_dropped(self, dropped: Counts) -> None:
        before, self._dropped = self._dropped, dropped
        for series in dropped if dropped is not before else ():
            more = dropped[series] - before.get(series, 0)
            if more:
                DUPLICATES.labels(series.exchange, series.symbol).inc(more)


def observe(state: State) -> None:
    TAIL_ROWS.set(state.tail.rows)
    HELD_ROWS.set(state.tail.held_rows)
    TAIL_BYTES.labels("memory").set(state.tail.bytes_in_memory)
    TAIL_BYTES.labels("disk").set(state.tail.bytes_on_disk)
    LACKING.set(sum(lack.end - lack.start for lack in state.absent))


def after_growth(state: State | None, message: Growth) -> State:
    """Return the state with what was committed or read."""
    if isinstance(message, Committed):
        if state is None:
            return State.of(message.index, EMPTY_TAIL, {}, message.table)
        return state.committed(message.index, message.table)
    if state is None:
        raise UnavailableError("nothing can be read before the catalog is")
    return after_read(state, message) if isinstance(message, Read) else after_shed(state, message)


def after_check(state: State, checked: Checked) -> State:
    """Return the state without what was read of another log since the last good look."""
    if not checked.refused:
        return state.refusing(frozenset(), state.tail)
    bounds = {(t, p): offset_at(checked.good, t, p) for t, p in checked.refused}
    return state.refusing(checked.refused, truncated(state.tail, bounds))


def after_read(state: State, read: Read) -> State:
    """Return the state with what was read added."""
    ledger = state.index.ledger
    tail = appended(state.tail, read.topic, read.chunk, read.spans, state.seam, ledger)
    ends = {**state.log_ends, read.topic: {**state.log_ends.get(read.topic, {}), **read.log_ends}}
    return state.grown(tail, ends).knowing(read.undecoded)


def after_shed(state: State, read: ReadShed) -> State:
    """Return the state with shed rows that were read back."""
    ledger = state.index.ledger
    tail = with_shed(state.tail, read.topic, read.chunk, read.spans, state.seam, ledger)
    return state.grown(tail, state.log_ends).knowing(read.undecoded)
