"""GovernorService over gRPC."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TypeAlias

import grpc
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.degradation.messages import Directive, Report
from libs.degradation.protocol import acknowledgement_from_pb, directive_to_pb, report_from_pb
from libs.market.clock import Clock
from libs.market.errors import InvalidError, K2Error, UnavailableError
from libs.runtime.mailbox import MailboxClosedError
from services.governor.collector import Acknowledged, Closed, ReportCollector, Reported
from services.governor.controller import Board
from services.governor.govern import Orders
from services.governor.pusher import push
from services.governor.views import Now, state

ControlContext: TypeAlias = "grpc.aio.ServicerContext[pb.ControlRequest, pb.ControlResponse]"
STATE_EVERY_S = 1.0


class GovernorServicer(governor_pb2_grpc.GovernorServiceServicer):
    def __init__(self, board: Board, collector: ReportCollector, clock: Clock) -> None:
        self._board, self._collector, self._clock = board, collector, clock
        self._streams = itertools.count(1)

    # The stubs know only generators; grpc.aio takes a coroutine that writes just as well.
    async def Control(  # type: ignore[override]  # noqa: N802 (gRPC's name)
        self, request_iterator: AsyncIterator[pb.ControlRequest], context: ControlContext
    ) -> None:
        """Hear one process and direct it, until either end closes or it says nothing for a TTL."""
        stream, requests = next(self._streams), aiter(request_iterator)
        first = _report(await self._next(requests))
        await self._collector.tell(Reported(stream, first))
        try:
            async with asyncio.TaskGroup() as tasks:
                pushing = tasks.create_task(self._push(first, context))
                await self._hear(stream, first.process, requests)
                pushing.cancel()
        except* K2Error as errors:
            raise errors.exceptions[0] from None
        finally:
            with suppress(MailboxClosedError):
                await self._collector.tell(Closed(stream, first.process))

    async def GetState(  # noqa: N802 (gRPC's name)
        self,
        _request: pb.GetStateRequest,
        _context: grpc.aio.ServicerContext[pb.GetStateRequest, pb.GetStateResponse],
    ) -> pb.GetStateResponse:
        return pb.GetStateResponse(state=self._state())

    async def WatchState(  # noqa: N802 (gRPC's name)
        self,
        _request: pb.WatchStateRequest,
        _context: grpc.aio.ServicerContext[pb.WatchStateRequest, pb.WatchStateResponse],
    ) -> AsyncIterator[pb.WatchStateResponse]:
        """Stream the state: at once where orders change, else once a second where it differs."""
        shown: pb.State | None = None
        while True:
            orders: Orders | None = self._board.orders.value
            now = self._state()
            if now != shown:
                yield pb.WatchStateResponse(state=now)
            shown = now
            await self._board.orders.changed_since(orders, STATE_EVERY_S)

    def _state(self) -> pb.State:
        now = Now(self._clock.monotonic_s(), self._clock.now_us())
        return state(self._board.standing.value, self._board.fleet.value, now)

    async def _next(self, requests: AsyncIterator[pb.ControlRequest]) -> pb.ControlRequest | None:
        ttl_s = self._board.standing.value.ttl_s
        try:
            async with asyncio.timeout(ttl_s):
                return await anext(requests, None)
        except TimeoutError as error:
            raise UnavailableError(f"the process reported nothing for {ttl_s:g} s") from error

    async def _hear(
        self, stream: int, process: str, requests: AsyncIterator[pb.ControlRequest]
    ) -> None:
        while (request := await self._next(requests)) is not None:
            if request.HasField("acknowledgement"):
                said = acknowledgement_from_pb(request.acknowledgement)
                await self._collector.tell(Acknowledged(process, said))
            else:
                await self._collector.tell(Reported(stream, _same(process, _report(request))))

    async def _push(self, first: Report, context: ControlContext) -> None:
        async def send(directive: Directive) -> None:
            response = pb.ControlResponse(directive=directive_to_pb(directive))
            try:
                async with asyncio.timeout(directive.ttl_s):
                    await context.write(response)
            except TimeoutError as error:
                raise UnavailableError(f"{first.process} takes no directives") from error

        await push(self._board, first.process, first.own.consumer_group, send, self._clock)


def _report(request: pb.ControlRequest | None) -> Report:
    if request is None or not request.HasField("report"):
        raise InvalidError("the first message must be a report", field="report")
    return report_from_pb(request.report)


def _same(process: str, report: Report) -> Report:
    if report.process != process:
        text = f"this stream is {process}'s, not {report.process}'s"
        raise InvalidError(text, field="report.process")
    return report
