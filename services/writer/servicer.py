"""WriterService over gRPC."""

from __future__ import annotations

import asyncio

import grpc
from k2.writer.v1 import backfill_pb2, ledger_pb2, writer_pb2, writer_pb2_grpc

from libs.degradation.agent import DegradationAgent
from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.coverage import Counts
from libs.market.errors import UnavailableError
from libs.rpc.times import timestamp_or_unset
from libs.runtime.mailbox import Mailbox
from services.writer.backfill.answer import answer_of
from services.writer.backfill.backfiller import Backfiller
from services.writer.batching.batcher import Batcher
from services.writer.commits.committer import TableCommitter
from services.writer.intake.consumer import Consumer
from services.writer.ledger.calls import LedgerCalls
from services.writer.maintenance.maintainer import Maintainer
from services.writer.maintenance.servicer import MaintenanceCalls
from services.writer.messages import Flush, Flushed, ToConsumer

SERVICE = writer_pb2.DESCRIPTOR.services_by_name["WriterService"].full_name
LONGEST_FLUSH_S = 60.0
# The others are in the ledger.
MOST_SYMBOLS = 100


class WriterServicer(MaintenanceCalls, writer_pb2_grpc.WriterServiceServicer):
    """Shows what the actors publish, and passes Flush on to them."""

    def __init__(
        self,
        name: str,
        consumer: Consumer,
        batcher: Batcher,
        committer: TableCommitter,
        mailbox: Mailbox[ToConsumer],
        agent: DegradationAgent,
        ledger: LedgerCalls,
        maintainer: Maintainer,
        backfiller: Backfiller,
    ) -> None:
        super().__init__(name, maintainer)
        self._name = name
        self._consumer = consumer
        self._batcher = batcher
        self._committer = committer
        self._mailbox = mailbox
        self._agent = agent
        self._ledger = ledger
        self._backfiller = backfiller

    async def GetStatus(  # noqa: N802
        self,
        request: writer_pb2.GetStatusRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]  # noqa: ARG002
    ) -> writer_pb2.GetStatusResponse:
        done = self._committer.view
        return writer_pb2.GetStatusResponse(
            writer=self._name,
            level=self._agent.level.name,
            partitions=self._partitions(),
            buffered_rows=self._batcher.buffered_rows,
            committed_rows=done.rows,
            commits=done.commits,
            dead_lettered_rows=done.dead_lettered,
            lost_records=done.lost,
            last_snapshot_id=done.snapshot_id,
            last_commit_time=timestamp_or_unset(done.commit_time_us),
            stopped_because=stopped_because(self._consumer, self._committer),
            duplicate_rows=done.duplicates,
            duplicates=by_symbol(done.all_duplicates),
        )

    async def Flush(  # noqa: N802
        self,
        request: writer_pb2.FlushRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> writer_pb2.FlushResponse:
        reply: asyncio.Future[Flushed] = asyncio.get_running_loop().create_future()
        timeout_s = min(context.time_remaining() or LONGEST_FLUSH_S, LONGEST_FLUSH_S)
        try:
            async with asyncio.timeout(timeout_s):
                await self._mailbox.put(Flush(reply))
                flushed = await reply
        except TimeoutError as error:
            why = stopped_because(self._consumer, self._committer)
            raise UnavailableError(
                f"not committed within {timeout_s:.0f} s" + (f": {why}" if why else "")
            ) from error
        return writer_pb2.FlushResponse(snapshot_id=flushed.snapshot_id, rows=flushed.rows)

    async def GetLedger(  # noqa: N802
        self,
        request: ledger_pb2.GetLedgerRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]  # noqa: ARG002
    ) -> ledger_pb2.GetLedgerResponse:
        return await self._ledger.page(request)

    async def RecordVenueHole(  # noqa: N802
        self,
        request: ledger_pb2.RecordVenueHoleRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> ledger_pb2.RecordVenueHoleResponse:
        timeout_s = min(context.time_remaining() or LONGEST_FLUSH_S, LONGEST_FLUSH_S)
        return await self._ledger.declare(request, timeout_s=timeout_s)

    async def GetBackfill(  # noqa: N802
        self,
        request: backfill_pb2.GetBackfillRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]  # noqa: ARG002
    ) -> backfill_pb2.GetBackfillResponse:
        return answer_of(self._name, self._backfiller.view)

    def _partitions(self) -> list[writer_pb2.PartitionStatus]:
        committed = self._committer.view.offsets or {}
        return [
            writer_pb2.PartitionStatus(
                topic=view.partition[0],
                partition=view.partition[1],
                committed_offset=committed.get(TopicPartition(*view.partition), 0),
                decoded_offset=view.decoded,
                end_offset=view.end or 0,
                paused=view.paused,
                held_because=view.hold.why if view.hold else "",
                held_since=timestamp_or_unset(view.hold.since_us) if view.hold else None,
            )
            for view in self._consumer.view()
        ]


def stopped_because(consumer: Consumer, committer: TableCommitter) -> str:
    """Say why the writer is not committing, as far as anybody knows."""
    reasons = [committer.view.stopped_because, consumer.not_placed_because]
    reasons += sorted(set(consumer.refused.values()))
    return "; ".join(reason for reason in reasons if reason)


def by_symbol(counts: Counts) -> list[writer_pb2.SymbolCount]:
    """Show the symbols with most first."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        writer_pb2.SymbolCount(
            exchange=series.exchange,
            asset_class=series.asset_class,
            symbol=series.symbol,
            count=count,
        )
        for series, count in most[:MOST_SYMBOLS]
    ]
