"""Where to read on: the table's offset, checked against the log that Kafka has."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.kafka.same_log import Log, why_another
from libs.lake.commits import seam
from libs.lake.commits.seam import OffsetRange
from libs.runtime.actor import MailboxActor, ask
from services.writer.intake.positions import Lost, Partition, Placement, Refuse, Seek, place
from services.writer.messages import (
    FindRows,
    ReadTable,
    RecordLost,
    StoredRow,
    TableState,
    ToCommitter,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

log = structlog.get_logger()


class Placer:
    """Decides positions for the consumer. The committer answers after the commits sent before."""

    def __init__(
        self,
        committer: MailboxActor[ToCommitter],
        log_now: Log,
        *,
        cluster_id: str,
        timeout_s: float = 10.0,
    ) -> None:
        self._committer = committer
        self._log_now = log_now
        self._cluster_id = cluster_id
        self._timeout_s = timeout_s

    async def place(
        self, kafka: AIOKafkaConsumer, partitions: Collection[Partition]
    ) -> Mapping[Partition, Placement]:
        """Place partitions; where retention was faster, record the loss first.

        Those whose loss was recorded are not in the answer: ask again, the table has moved.

        Raises:
            UnavailableError, TimeoutError, KafkaError: the table or Kafka does not answer.
        """
        state = await ask(self._committer, ReadTable, timeout_s=self._timeout_s)
        if refusal := another_cluster(state, self._cluster_id):
            return dict.fromkeys(partitions, refusal)
        bounds = await self._bounds(kafka, partitions)
        placements = {
            p: place(p, table_offset=offset_of(state, p), log_start=start, log_end=end)
            for p, (start, end) in bounds.items()
        }
        lost = {p: loss for p, loss in placements.items() if isinstance(loss, Lost)}
        if lost:
            await self._record(lost)
        placed = {p: placement for p, placement in placements.items() if p not in lost}
        return placed | await self._other_logs(placed, {p: bounds[p][0] for p in placed})

    async def _other_logs(
        self, placed: Mapping[Partition, Placement], log_starts: Mapping[Partition, int]
    ) -> dict[Partition, Refuse]:
        """Compare the last record before each position, where log and table both have it."""
        last = {
            seam.TopicPartition(*p): placement.offset - 1
            for p, placement in placed.items()
            if isinstance(placement, Seek) and placement.offset > log_starts[p]
        }
        if not last:
            return {}
        stored: Mapping[seam.TopicPartition, StoredRow] = await ask(
            self._committer, lambda reply: FindRows(last, reply), timeout_s=self._timeout_s
        )
        logged = await self._log_now.read({p: last[p] for p in stored}) if stored else {}
        reasons = ((p, why_another(p, row, logged.get(p))) for p, row in stored.items())
        return {p: Refuse(reason) for p, reason in reasons if reason}

    async def _bounds(
        self, kafka: AIOKafkaConsumer, partitions: Iterable[Partition]
    ) -> dict[Partition, tuple[int, int]]:
        by_partition = {p: TopicPartition(*p) for p in partitions}
        async with asyncio.timeout(self._timeout_s):
            start = await kafka.beginning_offsets(list(by_partition.values()))
            end = await kafka.end_offsets(list(by_partition.values()))
        return {p: (start[tp], end[tp]) for p, tp in by_partition.items()}

    async def _record(self, lost: Mapping[Partition, Lost]) -> None:
        ranges = {
            seam.TopicPartition(*p): OffsetRange(loss.start, loss.end) for p, loss in lost.items()
        }
        await ask(
            self._committer, lambda reply: RecordLost(ranges, reply), timeout_s=self._timeout_s
        )


def another_cluster(state: TableState, cluster_id: str) -> Refuse | None:
    """Refuse a log of another Kafka cluster than the one the table's offsets count."""
    if not state.cluster_id or not cluster_id or state.cluster_id == cluster_id:
        return None
    return Refuse(
        f"the table's offsets are of Kafka cluster {state.cluster_id}, but this broker is of"
        f" cluster {cluster_id}: point K2_KAFKA_BOOTSTRAP at the first, or give this one a table"
        " of its own"
    )


def offset_of(state: TableState, partition: Partition) -> int:
    return seam.offset_at(state.seam, seam.TopicPartition(*partition))
