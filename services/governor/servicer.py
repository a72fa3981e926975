"""GovernorService over gRPC."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import grpc
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.market.clock import Clock
from libs.market.errors import K2Error
from services.governor.collector import ReportCollector
from services.governor.controller import Board
from services.governor.conversation import Conversation, report_of, with_deadline
from services.governor.pusher import push
from services.governor.views import Now, state

STATE_EVERY_S = 1.0


class GovernorServicer(governor_pb2_grpc.GovernorServiceServicer):
    def __init__(self, board: Board, collector: ReportCollector, clock: Clock) -> None:
        self._board, self._collector, self._clock = board, collector, clock
        self._streams = itertools.count(1)

    # The stubs know only generators; grpc.aio takes a coroutine that writes just as well.
    async def Control(  # type: ignore[override]  # noqa: N802 (gRPC's name)
        self,
        request_iterator: AsyncIterator[pb.ControlRequest],
        context: grpc.aio.ServicerContext[pb.ControlRequest, pb.ControlResponse],
    ) -> None:
        """Hear one process and direct it, until either end closes or it says nothing for a TTL."""
        ttl_s = self._board.standing.value.ttl_s
        requests = with_deadline(aiter(request_iterator), ttl_s)
        first = report_of(await anext(requests, None))
        conversation = Conversation(next(self._streams), first, self._collector)
        await conversation.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                pushing = tasks.create_task(
                    push(self._board, first, conversation.sender(context.write), self._clock)
                )
                await conversation.hear(requests)
                pushing.cancel()
        except* K2Error as errors:
            raise errors.exceptions[0] from None
        finally:
            await conversation.close()

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
            orders = self._board.orders.value
            now = self._state()
            if now != shown:
                yield pb.WatchStateResponse(state=now)
            shown = now
            await self._board.orders.changed_since(orders, STATE_EVERY_S)

    def _state(self) -> pb.State:
        now = Now(self._clock.monotonic_s(), self._clock.now_us())
        return state(self._board.standing.value, self._board.fleet.value, now)
