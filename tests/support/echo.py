"""A small gRPC service of every shape, whose behaviour a test gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from libs.rpc.client import channel
from libs.rpc.server import RunningServer, Servicer, serve

ECHO = "k2.test.v1.EchoService"
Text: TypeAlias = StringValue
Unary: TypeAlias = Callable[[Text, Any], Awaitable[Text]]
ServerStream: TypeAlias = Callable[[Text, Any], Any]
Bidi: TypeAlias = Callable[[AsyncIterator[Text], Any], AsyncIterator[Text]]


def text(value: str) -> Text:
    return StringValue(value=value)


async def _echo(request: Text, _: object) -> Text:
    return request


async def _letters(request: Text, _: object) -> AsyncIterator[Text]:
    for letter in request.value:
        yield text(letter)


async def _echo_each(requests: AsyncIterator[Text], _: object) -> AsyncIterator[Text]:
    async for request in requests:
        yield request


def echo_servicer(
    unary: Unary = _echo, server_stream: ServerStream = _letters, bidi: Bidi = _echo_each
) -> Servicer:
    """Describe the service as `serve` takes it."""
    codec: dict[str, Any] = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary, **codec),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream, **codec),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi, **codec),
    }

    def add_to_server(_: object, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ECHO, handlers),))

    return add_to_server, None, ECHO


class EchoStub:
    """What a generated stub would be."""

    def __init__(self, open_channel: grpc.aio.Channel) -> None:
        codec: dict[str, Any] = {
            "request_serializer": StringValue.SerializeToString,
            "response_deserializer": StringValue.FromString,
        }
        self.unary: Any = open_channel.unary_unary(f"/{ECHO}/Unary", **codec)
        self.server_stream: Any = open_channel.unary_stream(f"/{ECHO}/ServerStream", **codec)
        self.bidi: Any = open_channel.stream_stream(f"/{ECHO}/Bidi", **codec)


@asynccontextmanager
async def echo_service(
    unary: Unary = _echo, server_stream: ServerStream = _letters, bidi: Bidi = _echo_each
) -> AsyncIterator[tuple[RunningServer, EchoStub]]:
    """Serve it on a free port, with a client connected."""
    server = await serve([echo_servicer(unary, server_stream, bidi)], "127.0.0.1:0")
    try:
        async with channel(server.address) as open_channel:
            yield server, EchoStub(open_channel)
    finally:
        await server.stop(0)
