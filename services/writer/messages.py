"""What the writer's actors tell each other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

import pyarrow as pa

from libs.kafka.record_columns import Keys
from libs.kafka.record_starts import Ints
from libs.lake.commits.commit import Kind, LakeFile
from libs.lake.commits.seam import Ranges, Seam, TopicPartition
from libs.lake.ledger.ledger import EMPTY_LEDGER, Holes, Ledger
from services.writer.batching.buffer import Part
from services.writer.commits.storing import Written
from services.writer.intake.holds import Hold
from services.writer.intake.positions import Partition

# Some of a trade's columns, by name.
StoredRow = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Records as fetched: they cover consumer positions [start, following) of one partition.

    `keys` are copied out of what was fetched when somebody asks for them. `appended_ms` is when the
    log took the first, `stored_bytes` what all of them take there.
    """

    partition: Partition
    generation: int
    start: int
    following: int
    offsets: Ints
    values: pa.Array
    key_parts: tuple[Keys | pa.Array, ...] = ()
    appended_ms: int = 0
    stored_bytes: int = 0

    @property
    def keys(self) -> pa.Array:
        """Return each record's key, null where it has none."""
        parts = [part.array() if isinstance(part, Keys) else part for part in self.key_parts]
        return pa.concat_arrays(parts) if parts else pa.nulls(len(self.offsets), pa.binary())


@dataclass(frozen=True, slots=True)
class Fetched:
    """To the batcher: what one poll delivered."""

    chunks: tuple[RawChunk, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    """To the batcher: hold nothing of this partition that begins below `until`."""

    partition: Partition
    generation: int
    until: int


@dataclass(frozen=True, slots=True)
class Tick:
    """To the batcher: time has passed, or the levels have changed; is anything due?"""


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush brought into the table; snapshot 0 where there was nothing."""

    snapshot_id: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Flush:
    """To the consumer, then the batcher: commit all that has been fetched, and answer."""

    reply: asyncio.Future[Flushed]


@dataclass(frozen=True, slots=True)
class Commit:
    """To the committer: one buffer, one commit-id for ever.

    As parts are written they give up their batches for files, so that memory falls meanwhile.
    """

    commit_id: str
    parts: tuple[Part, ...]
    done: asyncio.Future[Flushed]
    kind: Kind = Kind.APPEND
    written: dict[TopicPartition, Written] = field(default_factory=dict)

    @property
    def files(self) -> tuple[LakeFile, ...]:
        return tuple(chain.from_iterable(written.files for written in self.written.values()))


@dataclass(frozen=True, slots=True)
class TableState:
    """What the table's head says of the log."""

    seam: Seam
    cluster_id: str


@dataclass(frozen=True, slots=True)
class ReadTable:
    """To the committer: where does the table stand, after every commit sent before?"""

    reply: asyncio.Future[TableState]


@dataclass(frozen=True, slots=True)
class FindRows:
    """To the committer: which rows does the table hold of these offsets?"""

    offsets: Mapping[TopicPartition, int]
    reply: asyncio.Future[Mapping[TopicPartition, StoredRow]]


@dataclass(frozen=True, slots=True)
class RecordLost:
    """To the committer: retention has taken these ranges; say so in the table."""

    ranges: Ranges
    reply: asyncio.Future[Flushed]


@dataclass(frozen=True, slots=True)
class HeadLedger:
    """A ledger and the snapshot it speaks of; 0 where there is none yet."""

    snapshot_id: int = 0
    ledger: Ledger = EMPTY_LEDGER


@dataclass(frozen=True, slots=True)
class ReadLedger:
    """To the committer: what does the ledger say, after every commit sent before?

    That of the head, or of the snapshot named.
    """

    snapshot_id: int | None
    reply: asyncio.Future[HeadLedger]


@dataclass(frozen=True, slots=True)
class DeclareHoles:
    """To the committer: these ids never were at the venue; say so in the ledger."""

    holes: Holes
    reply: asyncio.Future[Flushed]


@dataclass(frozen=True, slots=True)
class FencedOff:
    """To the consumer: these partitions, as placed by then, are not ours any more to go on with."""

    generations: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Held:
    """To the consumer: a burst of records cannot be read; go back to its start and wait."""

    hold: Hold


@dataclass(frozen=True, slots=True)
class Released:
    """To the consumer: what comes of this partition reads again; read on."""

    partition: Partition
    generation: int


@dataclass(frozen=True, slots=True)
class Resume:
    """To the consumer: accept what is held of a topic, or of a partition of it; both none: all."""

    topic: str
    partition: int | None
    reply: asyncio.Future[tuple[Partition, ...]]

    def names(self, held: Partition) -> bool:
        topic, partition = held
        return self.topic in ("", topic) and self.partition in (None, partition)


ToBatcher = Fetched | Tick | Flush | Accept
ToCommitter = Commit | ReadTable | FindRows | RecordLost | ReadLedger | DeclareHoles
ToConsumer = FencedOff | Flush | Held | Released | Resume
