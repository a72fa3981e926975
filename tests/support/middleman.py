"""One between a governor and its processes, over the real streams: he repeats old words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.rpc.client import channel
from libs.rpc.server import serve

SERVICE = pb.DESCRIPTOR.services_by_name["GovernorService"].full_name
WAITING_WORDS = 1_000

Streams = grpc.aio.ServicerContext[pb.ControlRequest, pb.ControlResponse]
Call = grpc.aio.StreamStreamCall[pb.ControlRequest, pb.ControlResponse]
Outbox = asyncio.Queue[pb.Directive]


class Middleman(governor_pb2_grpc.GovernorServiceServicer):
    """Passes both ways what he hears, to and from `governor`.

    `directives` are all that the governor said, `answers` all that processes acknowledged. While
    he is `silent` he passes no directive on. `attached` counts the streams there have been.
    """

    def __init__(self, governor: str) -> None:
        self.address = ""
        self.governor = governor
        self.silent = False
        self.attached = 0
        self.directives: list[pb.Directive] = []
        self.answers: list[pb.Acknowledgement] = []
        self._outboxes: set[Outbox] = set()

    def say(self, directive: pb.Directive) -> None:
        """Tell every process that is attached, whatever the governor says now."""
        for outbox in self._outboxes:
            outbox.put_nowait(directive)

    async def Control(  # type: ignore[override]  # noqa: N802 (gRPC's name)
        self, request_iterator: AsyncIterator[pb.ControlRequest], context: Streams
    ) -> None:
        outbox: Outbox = asyncio.Queue(WAITING_WORDS)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with channel(self.governor, options=options) as connection:
            call = governor_pb2_grpc.GovernorServiceStub(connection).Control()
            tasks = {
                asyncio.create_task(self._up(request_iterator, call)),
                asyncio.create_task(self._down(call, outbox)),
                asyncio.create_task(_write(outbox, context)),
            }
            self._outboxes.add(outbox)
            self.attached += 1
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._outboxes.discard(outbox)
                call.cancel()
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def _up(self, requests: AsyncIterator[pb.ControlRequest], call: Call) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async for request in requests:
                if request.HasField("acknowledgement"):
                    self.answers.append(request.acknowledgement)
                await call.write(request)

    async def _down(self, call: Call, outbox: Outbox) -> None:
        with suppress(grpc.aio.AioRpcError):
            while isinstance(response := await call.read(), pb.ControlResponse):
                self.directives.append(response.directive)
                if not self.silent:
                    await outbox.put(response.directive)


async def _write(outbox: Outbox, context: Streams) -> None:
    while True:
        await context.write(pb.ControlResponse(directive=await outbox.get()))


@asynccontextmanager
async def between(governor: str) -> AsyncIterator[Middleman]:
    """Stand between a governor and whoever comes to `address`, while the body runs."""
    made = Middleman(governor)  # type: ignore[abstract]  # only its stream is asked for
    add = governor_pb2_grpc.add_GovernorServiceServicer_to_server
    server = await serve([(add, made, SERVICE)], "127.0.0.1:0")
    made.address = server.address
    try:
        yield made
    finally:
        await server.stop(0)
