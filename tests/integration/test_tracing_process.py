"""Spans leave a real process by OTLP, and a collector that is away does not hold it up."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from libs.rpc.client import call, channel
from tests.support.echo import ECHO, EchoStub, text
from tests.support.polling import eventually
from tests.support.processes import started

TOY = "tests.support.toy"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that processes send."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []

    async def Export(  # noqa: N802 (the protocol's name)
        self, request: trace_service_pb2.ExportTraceServiceRequest, _: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> dict[str, str]:
        """Trace id by the span's name."""
        return {
            span.name: span.trace_id.hex()
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    server, collector = grpc.aio.server(), Collector()
    add_to_server: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def test_server_spans_reach_the_collector(tmp_path: Path) -> None:
    """A call's span carries the caller's trace."""
    async with collecting() as (collector, endpoint):
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with started(TOY, name="toy-1", run_dir=tmp_path, env=env) as toy:
            door = await toy.serving()
            assert door.grpc is not None
            parent = ("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01")
            async with channel(door.grpc) as open_channel:
                await EchoStub(open_channel).unary(text("hi"), timeout=60, metadata=(parent,))
            await eventually(lambda: f"{ECHO}/Unary" in collector.spans())

    assert collector.spans()[f"{ECHO}/Unary"] == TRACE_ID


async def test_collector_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """Calls are answered, and the process ends in time with code 0."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{nobody.getsockname()[1]}"}
        with started(TOY, name="toy-1", run_dir=tmp_path, env=env) as toy:
            door = await toy.serving()
            assert door.grpc is not None
            async with channel(door.grpc) as open_channel:
                await call(EchoStub(open_channel).unary, text("hi"), timeout_s=60)

            assert toy.stop(timeout_s=60) == 0
