"""What the writer's service answers of the ledger, and what may be declared to it."""

from __future__ import annotations

from functools import partial

from k2.writer.v1 import ledger_pb2

from libs.market.clock import Clock
from libs.runtime.actor import ask
from services.writer.commits.committer import TableCommitter
from services.writer.ledger.pages import declared, ledger_page, token_of
from services.writer.ledger.reader import LedgerReader
from services.writer.messages import DeclareHoles


class LedgerCalls:
    """Reads beside the commits; what is declared goes through the committer, as one."""

    def __init__(self, ledgers: LedgerReader, committer: TableCommitter, clock: Clock) -> None:
        self._ledgers = ledgers
        self._committer = committer
        self._clock = clock

    async def page(self, request: ledger_pb2.GetLedgerRequest) -> ledger_pb2.GetLedgerResponse:
        token = token_of(request)
        return ledger_page(request, token, await self._ledgers.ledger(token.snapshot_id))

    async def declare(
        self, request: ledger_pb2.RecordVenueHoleRequest, *, timeout_s: float
    ) -> ledger_pb2.RecordVenueHoleResponse:
        head = await self._ledgers.ledger()
        series, hole = declared(request, head.ledger.coverage, at_us=self._clock.now_us())
        declare = partial(DeclareHoles, {series: (hole,)})
        flushed = await ask(self._committer, declare, timeout_s=timeout_s)
        return ledger_pb2.RecordVenueHoleResponse(snapshot_id=flushed.snapshot_id)
