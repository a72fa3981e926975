"""What KEDA asks of an external scaler, over gRPC: externalscaler.ExternalScaler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import grpc
from externalscaler import externalscaler_pb2 as pb
from externalscaler import externalscaler_pb2_grpc as pb_grpc

from libs.market.errors import NotFoundError
from libs.rpc.client import channel, translated
from services.governor.board import Board
from services.governor.leading.following import not_leading
from services.governor.scaling.demand import desired_writers, is_active

SERVICE = "externalscaler.ExternalScaler"
METRIC = "k2-desired-writers"
LOOK_EVERY_S = 1.0
LEADER_TIMEOUT_S = 2.0
# So that two governors of which each takes the other for the leader do not ask on and on.
ASKED_ALREADY = "k2-asked-by-standby"

if TYPE_CHECKING:
    # The stubs alone know it.
    Stub = pb_grpc.ExternalScalerAsyncStub

Q = TypeVar("Q")
R = TypeVar("R")


class ScalerServicer(pb_grpc.ExternalScalerServicer):
    """Answers from what the leader knows: a standby asks it, for a Service may lead to either."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def IsActive(  # noqa: N802 (gRPC's name)
        self,
        request: pb.ScaledObjectRef,
        context: grpc.aio.ServicerContext[pb.ScaledObjectRef, pb.IsActiveResponse],
    ) -> pb.IsActiveResponse:
        if self._leads:
            active = is_active(self._board.standing.value, group_of(request))
            return pb.IsActiveResponse(result=active)
        return await self._ask_leader(context, lambda stub: stub.IsActive, request)

    async def StreamIsActive(  # noqa: N802 (gRPC's name)
        self,
        request: pb.ScaledObjectRef,
        context: grpc.aio.ServicerContext[pb.ScaledObjectRef, pb.IsActiveResponse],
    ) -> AsyncIterator[pb.IsActiveResponse]:
        """Say it at once, and again whenever it changes."""
        said: pb.IsActiveResponse | None = None
        while True:
            now = await self.IsActive(request, context)
            if now != said:
                yield now
            said = now
            seen = self._board.leadership.value
            await self._board.leadership.changed_since(seen, LOOK_EVERY_S)

    async def GetMetricSpec(  # noqa: N802 (gRPC's name)
        self,
        _request: pb.ScaledObjectRef,
        _context: grpc.aio.ServicerContext[pb.ScaledObjectRef, pb.GetMetricSpecResponse],
    ) -> pb.GetMetricSpecResponse:
        """The metric is the number of writers itself: each of them makes up for one."""
        spec = pb.MetricSpec(metricName=METRIC, targetSize=1, targetSizeFloat=1.0)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(  # noqa: N802 (gRPC's name)
        self,
        request: pb.GetMetricsRequest,
        context: grpc.aio.ServicerContext[pb.GetMetricsRequest, pb.GetMetricsResponse],
    ) -> pb.GetMetricsResponse:
        if request.metricName not in ("", METRIC):
            text = f"there is no metric {request.metricName}, only {METRIC}"
            raise NotFoundError(text, metric=request.metricName)
        if not self._leads:
            return await self._ask_leader(context, lambda stub: stub.GetMetrics, request)
        replicas = desired_writers(self._board.standing.value, group_of(request.scaledObjectRef))
        value = pb.MetricValue(
            metricName=METRIC, metricValue=replicas, metricValueFloat=float(replicas)
        )
        return pb.GetMetricsResponse(metricValues=[value])

    @property
    def _leads(self) -> bool:
        return self._board.leadership.value.leading

    async def _ask_leader(
        self,
        context: grpc.aio.ServicerContext[Q, R],
        method: Callable[[Stub], Callable[..., Awaitable[R]]],
        request: Q,
    ) -> R:
        state = self._board.leadership.value
        asked = any(key == ASKED_ALREADY for key, _ in context.invocation_metadata() or ())
        if state.leader is None or asked:
            raise not_leading(state)
        metadata = ((ASKED_ALREADY, state.process),)
        async with _stub(state.leader.address) as stub:
            return await method(stub)(request, timeout=LEADER_TIMEOUT_S, metadata=metadata)


def group_of(asked: pb.ScaledObjectRef) -> str:
    return asked.scalerMetadata.get("consumerGroup", "")


@asynccontextmanager
async def _stub(address: str) -> AsyncIterator[Stub]:
    async with channel(address) as connection:
        try:
            yield pb_grpc.ExternalScalerStub(connection)
        except grpc.aio.AioRpcError as error:
            raise translated(error, LEADER_TIMEOUT_S) from error
