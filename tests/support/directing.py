"""A governor in the test's hand: it orders what it is told, over the real stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.degradation.level import Level
from libs.degradation.messages import Directive
from libs.degradation.protocol import directive_to_pb
from libs.rpc.server import serve
from tests.support.polling import POLL_S

TTL_S = 600.0
SERVICE = pb.DESCRIPTOR.services_by_name["GovernorService"].full_name


class Director(governor_pb2_grpc.GovernorServiceServicer):
    """Orders the same of every process that attaches; `refusals` are the orders not obeyed.

    `applied` is the newest sequence that each process has acknowledged.
    """

    def __init__(self) -> None:
        self.address = ""
        self.refusals: list[str] = []
        self.applied: dict[str, int] = {}
        self._directive = Directive(1, 1, TTL_S, Level.NORMAL, Level.NORMAL)

    def order(
        self, *, lag: Level = Level.NORMAL, memory: Level = Level.NORMAL, policy: str = ""
    ) -> int:
        """Order levels; return the order's sequence."""
        order = replace(self._directive, lag_level=lag, memory_level=memory, policy=policy)
        return self.say(order)

    def say(self, directive: Directive) -> int:
        """Order this, with the next sequence."""
        self._directive = replace(directive, sequence=self._directive.sequence + 1)
        return self._directive.sequence

    async def Control(  # type: ignore[override]  # noqa: N802 (gRPC's name)
        self,
        request_iterator: AsyncIterator[pb.ControlRequest],
        context: grpc.aio.ServicerContext[pb.ControlRequest, pb.ControlResponse],
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            pushing = tasks.create_task(self._push(context))
            process = ""
            async for request in request_iterator:
                process = request.report.process or process
                if request.HasField("acknowledgement"):
                    self._note(process, request.acknowledgement)
            pushing.cancel()

    def _note(self, process: str, said: pb.Acknowledgement) -> None:
        if said.refused_because:
            self.refusals.append(said.refused_because)
        else:
            self.applied[process] = max(said.sequence, self.applied.get(process, 0))

    async def _push(
        self, context: grpc.aio.ServicerContext[pb.ControlRequest, pb.ControlResponse]
    ) -> None:
        said = 0
        while True:
            if self._directive.sequence > said:
                said = self._directive.sequence
                await context.write(pb.ControlResponse(directive=directive_to_pb(self._directive)))
            await asyncio.sleep(POLL_S)


@pytest.fixture
async def director() -> AsyncIterator[Director]:
    """Give a governor that obeys the test."""
    made = Director()  # type: ignore[abstract]  # only its stream is asked for
    add = governor_pb2_grpc.add_GovernorServiceServicer_to_server
    server = await serve([(add, made, SERVICE)], "127.0.0.1:0")
    made.address = server.address
    try:
        yield made
    finally:
        await server.stop(0)
