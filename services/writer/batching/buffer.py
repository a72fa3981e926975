"""What has been decoded and not yet committed, and when it is time to commit it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from libs.degradation.level import Level
from libs.lake.ledger.ledger import joined

if TYPE_CHECKING:
    import pyarrow as pa

    from libs.lake.ledger.ledger import Shed
    from libs.wire.trades import Rejected
    from services.writer.intake.positions import Partition


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition, decoded: they cover consumer positions [start, following)."""

    partition: Partition
    generation: int
    start: int
    following: int
    batch: pa.RecordBatch
    rejected: tuple[Rejected, ...] = ()
    shed: tuple[Shed, ...] = ()

    @property
    def size_bytes(self) -> int:
        return int(self.batch.nbytes) + sum(len(r.raw) for r in self.rejected)


@dataclass(frozen=True, slots=True)
class Part:
    """A partition's share of a commit. Its batches are emptied once they are in a file."""

    partition: Partition
    generation: int
    start: int
    following: int
    batches: list[pa.RecordBatch]
    rejected: tuple[Rejected, ...] = ()
    shed: tuple[Shed, ...] = ()

    @property
    def rows(self) -> int:
        return sum(batch.num_rows for batch in self.batches)


@dataclass(slots=True)
class _Gathering:
    generation: int
    start: int
    following: int
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return sum(chunk.size_bytes for chunk in self.chunks)


class Buffer:
    """Decoded chunks by partition, contiguous within each."""

    def __init__(self) -> None:
        self._parts: dict[Partition, _Gathering] = {}
        self._since_s: float | None = None
        self.size_bytes = 0
        self.rows = 0

    def add(self, chunk: Chunk, *, now_s: float) -> int:
        """Append a chunk; return how many rows of an earlier placing it drove out.

        A partition that was placed anew is read again from the table's offset: what was gathered
        before would be committed twice over, or fenced.
        """
        part = self._parts.get(chunk.partition)
        dropped = 0
        if part is None or (part.generation, part.following) != (chunk.generation, chunk.start):
            dropped = self._drop(chunk.partition)
            part = _Gathering(chunk.generation, chunk.start, chunk.start)
            self._parts[chunk.partition] = part
        part.chunks.append(chunk)
        part.following = chunk.following
        self._count(chunk, 1)
        self._since_s = now_s if self._since_s is None else self._since_s
        return dropped

    def cut(self, partition: Partition, offset: int) -> None:
        """Forget what was gathered of a partition from a chunk's start on: it is read again."""
        part = self._parts.get(partition)
        if part is None:
            return
        kept = [chunk for chunk in part.chunks if chunk.start < offset]
        for chunk in part.chunks[len(kept) :]:
            self._count(chunk, -1)
        part.chunks = kept
        part.following = kept[-1].following if kept else part.start
        if not kept:
            del self._parts[partition]
        if not self._parts:
            self._since_s = None

    def take(self) -> tuple[Part, ...]:
        """Hand over everything, and be empty."""
        parts = tuple(_part(partition, p) for partition, p in sorted(self._parts.items()))
        self._parts.clear()
        self._since_s, self.size_bytes, self.rows = None, 0, 0
        return parts

    def age_s(self, now_s: float) -> float:
        return 0.0 if self._since_s is None else now_s - self._since_s

    def __bool__(self) -> bool:
        return bool(self._parts)

    def _drop(self, partition: Partition) -> int:
        part = self._parts.pop(partition, None)
        chunks = part.chunks if part else []
        for chunk in chunks:
            self._count(chunk, -1)
        return sum(chunk.batch.num_rows for chunk in chunks)

    def _count(self, chunk: Chunk, sign: int) -> None:
        self.size_bytes += sign * chunk.size_bytes
        self.rows += sign * chunk.batch.num_rows


def _part(partition: Partition, gathering: _Gathering) -> Part:
    chunks = gathering.chunks
    return Part(
        partition,
        gathering.generation,
        gathering.start,
        gathering.following,
        [chunk.batch for chunk in chunks if chunk.batch.num_rows],
        tuple(rejected for chunk in chunks for rejected in chunk.rejected),
        joined(shed for chunk in chunks for shed in chunk.shed),
    )


# The smallest batches, where memory is short: smaller ones would only be more commits.
SMALLEST_SHARE = 8
# Where nothing is read any more nothing comes that a buffer could wait for.
LONGEST_WAIT_S = 1.0


class Decision(Enum):
    """What to do with the buffer now."""

    GATHER = "gather"
    FLUSH = "flush"
    HOLD = "hold"  # full, and the commit before is still under way: take no more until it is done


@dataclass(frozen=True, slots=True)
class FlushRule:
    """Commit at so many bytes or so many seconds, whichever comes first."""

    after_bytes: int
    after_s: float

    def under(self, *, lag: Level, memory: Level) -> FlushRule:
        """Return the rule at these levels; where both apply, memory wins."""
        if memory >= Level.SOFT:
            share = {Level.SOFT: 2, Level.GRACEFUL: 4}.get(memory, SMALLEST_SHARE)
            longest_s = LONGEST_WAIT_S if memory >= Level.AGGRESSIVE else self.after_s
            return FlushRule(self.after_bytes // share, min(self.after_s / share, longest_s))
        if lag >= Level.SOFT:
            return FlushRule(self.after_bytes * 5 // 4, self.after_s * 3)
        return self

    def decide(self, *, size_bytes: int, age_s: float, committing: bool) -> Decision:
        """Age alone never holds: while a commit is under way the buffer may fill up."""
        if size_bytes >= self.after_bytes:
            return Decision.HOLD if committing else Decision.FLUSH
        if age_s >= self.after_s and not committing:
            return Decision.FLUSH
        return Decision.GATHER
