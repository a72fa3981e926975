"""The Control stream over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.degradation.messages import Acknowledgement, Directive, Report
from libs.degradation.protocol import acknowledgement_to_pb, directive_from_pb, report_to_pb
from libs.market.errors import UnavailableError
from libs.rpc.client import channel, translated, wait_until_ready
from libs.rpc.sizes import TRICKLE_OPTIONS

T = TypeVar("T")
Call = grpc.aio.StreamStreamCall[pb.ControlRequest, pb.ControlResponse]

CONNECT_TIMEOUT_S = 2.0
SEND_TIMEOUT_S = 5.0


@asynccontextmanager
async def open_stream(address: str) -> AsyncIterator[ControlStream]:
    """Open a Control stream on a channel of its own.

    Raises:
        UnavailableError: nothing answers at `address`.
    """
    # A connection of its own: one that is shared hides that its other end sleeps.
    options = [("grpc.use_local_subchannel_pool", 1), *TRICKLE_OPTIONS]
    async with channel(address, options=options) as connection:
        await wait_until_ready(connection, timeout_s=CONNECT_TIMEOUT_S)
        call = governor_pb2_grpc.GovernorServiceStub(connection).Control()
        try:
            yield ControlStream(call)
        finally:
            call.cancel()


class ControlStream:
    """One open stream: what breaks it comes out as a K2Error."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def send(self, message: Report | Acknowledgement) -> None:
        request = (
            pb.ControlRequest(report=report_to_pb(message))
            if isinstance(message, Report)
            else pb.ControlRequest(acknowledgement=acknowledgement_to_pb(message))
        )
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await _translating(self._call.write(request))
        except TimeoutError as error:
            raise UnavailableError("the governor takes no reports") from error

    async def receive(self) -> Directive:
        response = await _translating(self._call.read())
        if not isinstance(response, pb.ControlResponse):
            raise UnavailableError("the governor closed the stream")
        return directive_from_pb(response.directive)


async def _translating(awaitable: Awaitable[T]) -> T:
    try:
        return await awaitable
    except grpc.aio.AioRpcError as error:
        raise translated(error) from error
    except asyncio.InvalidStateError as error:
        raise UnavailableError("the stream to the governor has ended") from error
