"""GovernorService over gRPC."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import grpc
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.degradation.protocol import level_from_pb
from libs.market.clock import Clock
from libs.market.errors import K2Error
from services.governor.board import Board
from services.governor.deciding.overrides import make_override
from services.governor.directing.conversation import Conversation, first_report
from services.governor.directing.pusher import push
from services.governor.leading.following import not_leading
from services.governor.leading.recorder import Recorder
from services.governor.observing.collector import ReportCollector
from services.governor.record.asking import explain_at, list_records
from services.governor.record.history import History
from services.governor.showing import board_state, override_to_pb
from services.governor.views import Now

STATE_EVERY_S = 1.0
# Kafka's clock, which stamps the records, may be ahead of ours.
AHEAD_US = 60_000_000


class GovernorServicer(governor_pb2_grpc.GovernorServiceServicer):
    def __init__(
        self,
        board: Board,
        collector: ReportCollector,
        recorder: Recorder,
        history: History,
        clock: Clock,
    ) -> None:
        self._board, self._collector, self._clock = board, collector, clock
        self._recorder, self._history = recorder, history
        self._streams = itertools.count(1)

    # The stubs know only generators; grpc.aio takes a coroutine that writes just as well.
    async def Control(  # type: ignore[override]  # noqa: N802 (gRPC's name)
        self,
        request_iterator: AsyncIterator[pb.ControlRequest],
        context: grpc.aio.ServicerContext[pb.ControlRequest, pb.ControlResponse],
    ) -> None:
        """Hear one process and direct it, until either end closes or it says nothing for a TTL."""
        if not self._board.leadership.value.leading:
            raise not_leading(self._board.leadership.value)
        ttl_s = self._board.standing.value.ttl_s
        requests = aiter(request_iterator)
        first = await first_report(requests, ttl_s)
        conversation = Conversation(
            next(self._streams), first, self._collector, self._board.crossing
        )
        await conversation.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                pushing = tasks.create_task(
                    push(self._board, first, conversation.sender(context.write), self._clock)
                )
                watching = tasks.create_task(conversation.watch(ttl_s))
                await conversation.hear(requests)
                pushing.cancel()
                watching.cancel()
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
            recorded = self._board.recorded.value
            now = self._state()
            if now != shown:
                yield pb.WatchStateResponse(state=now)
            shown = now
            await self._board.recorded.changed_since(recorded, STATE_EVERY_S)

    async def SetOverride(  # noqa: N802 (gRPC's name)
        self,
        request: pb.SetOverrideRequest,
        _context: grpc.aio.ServicerContext[pb.SetOverrideRequest, pb.SetOverrideResponse],
    ) -> pb.SetOverrideResponse:
        wanted = make_override(
            level_from_pb(request.level, field="level"),
            request.reason,
            request.duration.ToMilliseconds() / 1_000,
            self._clock.now_us(),
        )
        await self._recorder.override(wanted)
        return pb.SetOverrideResponse(override=override_to_pb(wanted))

    async def ClearOverride(  # noqa: N802 (gRPC's name)
        self,
        _request: pb.ClearOverrideRequest,
        _context: grpc.aio.ServicerContext[pb.ClearOverrideRequest, pb.ClearOverrideResponse],
    ) -> pb.ClearOverrideResponse:
        before = await self._recorder.override(None)
        over = before is None or before.left_s(self._clock.now_us()) <= 0
        return pb.ClearOverrideResponse(
            override=None if over or before is None else override_to_pb(before)
        )

    async def Explain(  # noqa: N802 (gRPC's name)
        self,
        request: pb.ExplainRequest,
        _context: grpc.aio.ServicerContext[pb.ExplainRequest, pb.ExplainResponse],
    ) -> pb.ExplainResponse:
        return await explain_at(self._history, request, self._clock.now_us() + AHEAD_US)

    async def ListRecords(  # noqa: N802 (gRPC's name)
        self,
        request: pb.ListRecordsRequest,
        _context: grpc.aio.ServicerContext[pb.ListRecordsRequest, pb.ListRecordsResponse],
    ) -> pb.ListRecordsResponse:
        return await list_records(self._history, request, self._clock.now_us() + AHEAD_US)

    def _state(self) -> pb.State:
        now = Now(self._clock.monotonic_s(), self._clock.now_us())
        return board_state(self._board, now)
