"""The gRPC frame: errors, deadlines, health, reflection, for calls of every shape."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from libs.market.errors import ExhaustedError, InvalidError, K2Error, UnavailableError
from libs.rpc.client import call, channel, stream, translated
from libs.rpc.errors import DETAILS_KEY
from libs.rpc.server import serve
from libs.telemetry.ports import CannotListenError
from tests.support.echo import ECHO, EchoStub, Text, echo_service, text
from tests.support.polling import eventually
from tests.support.processes import health_of


async def refuse(request: Text, _: object) -> Text:
    raise InvalidError(f"no symbol {request.value}", field="symbol", exchange="BINANCE")


async def two_then_fail(_: Text, __: object) -> AsyncIterator[Text]:
    yield text("1")
    yield text("2")
    raise ExhaustedError("enough", retry_after_s=2.5)


async def read_into(received: list[str], stub: EchoStub) -> None:
    async for response in stream(stub.server_stream, text("")):
        received.append(response.value)  # noqa: PERF401 (what came before an error counts)


async def test_unary_error_is_a_google_rpc_status() -> None:
    """Code, ErrorInfo and BadRequest are what any gRPC client can read."""
    async with echo_service(refuse) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await stub.unary(text("XYZ"), timeout=60)

    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told.value.details() == "no symbol XYZ"
    trailers = dict(told.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers[DETAILS_KEY])
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad_request)
    assert (info.domain, info.reason) == ("k2.dev", "INVALID")
    assert info.metadata["exchange"] == "BINANCE"
    assert bad_request.field_violations[0].field == "symbol"


async def test_unary_error_is_rebuilt() -> None:
    """The client raises what the servicer raised."""
    async with echo_service(refuse) as (_, stub):
        with pytest.raises(InvalidError, match="no symbol XYZ") as told:
            await call(stub.unary, text("XYZ"))

    assert told.value.field == "symbol"
    assert told.value.facts["exchange"] == "BINANCE"


async def test_stream_error_comes_after_what_was_sent() -> None:
    """What the servicer yielded arrives, then its error with its RetryInfo."""
    received: list[str] = []
    async with echo_service(server_stream=two_then_fail) as (_, stub):
        with pytest.raises(ExhaustedError, match="enough") as told:
            await read_into(received, stub)

    assert received == ["1", "2"]
    assert told.value.retry_after_s == 2.5


async def test_stream_written_to_its_context_fails_alike() -> None:
    """A servicer may write to the context instead of yielding."""

    async def write_and_fail(_: Text, context: grpc.aio.ServicerContext[Text, Text]) -> None:
        await context.write(text("1"))
        raise UnavailableError("no Kafka")

    received: list[str] = []
    async with echo_service(server_stream=write_and_fail) as (_, stub):
        with pytest.raises(UnavailableError, match="no Kafka"):
            await read_into(received, stub)

    assert received == ["1"]


async def test_bidirectional_error_is_rebuilt() -> None:
    """The stream that both write to ends with the servicer's error."""

    async def refuse_second(requests: AsyncIterator[Text], _: object) -> AsyncIterator[Text]:
        async for request in requests:
            if request.value == "b":
                raise InvalidError("b is not for me", field="value")
            yield request

    async with echo_service(bidi=refuse_second) as (_, stub):
        duplex = stub.bidi(timeout=60)
        await duplex.write(text("a"))
        assert (await duplex.read()).value == "a"
        await duplex.write(text("b"))
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await duplex.read()

    error = translated(told.value)
    assert isinstance(error, InvalidError)
    assert error.field == "value"


async def test_unexpected_error_is_logged_and_not_told() -> None:
    """The caller learns that it was the service's fault, and nothing of its insides."""

    async def break_down(_: Text, __: object) -> Text:
        raise RuntimeError("password=hunter2")

    with capture_logs() as logged:
        async with echo_service(break_down) as (_, stub):
            with pytest.raises(K2Error, match="the service failed") as told:
                await call(stub.unary, text(""))

    assert told.value.code == "INTERNAL"
    assert "hunter2" not in str(told.value)
    assert [entry["event"] for entry in logged] == ["rpc_failed"]


async def test_abort_passes_untouched() -> None:
    """A servicer that aborts by itself chooses its code."""

    async def abort(_: Text, context: grpc.aio.ServicerContext[Text, Text]) -> Text:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not yours")
        return text("")

    async with echo_service(abort) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await stub.unary(text(""), timeout=60)

    assert told.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_deadline_cancels_the_servicer() -> None:
    """Work nobody waits for ends, and the caller hears how long it waited."""
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: Text, __: object) -> Text:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return text("")

    async with echo_service(hang) as (_, stub):

        async def refused_at_work() -> bool:
            with pytest.raises(UnavailableError, match=r"no answer within 0.2 s"):
                await call(stub.unary, text(""), timeout_s=0.2)
            return entered.is_set()

        await eventually(refused_at_work, what="a deadline that the servicer met at work")
        await asyncio.wait_for(cancelled.wait(), 60)


async def test_leaving_a_stream_cancels_the_servicer() -> None:
    """An abandoned stream does not go on being served."""
    cancelled = asyncio.Event()

    async def endless(_: Text, __: object) -> AsyncIterator[Text]:
        try:
            while True:
                yield text("more")
                await asyncio.sleep(0.001)
        finally:
            cancelled.set()

    async with echo_service(server_stream=endless) as (_, stub):
        async with aclosing(stream(stub.server_stream, text(""))) as responses:
            first = await anext(responses)
        assert first == text("more")
        await asyncio.wait_for(cancelled.wait(), 60)


async def test_refused_connection_names_the_address() -> None:
    """One sentence says who does not answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        async with channel(address) as open_channel:
            with pytest.raises(UnavailableError, match=f"nothing answers at {address}"):
                await call(EchoStub(open_channel).unary, text(""), timeout_s=60)


async def test_oversized_request_is_exhausted() -> None:
    """Beyond 16 MiB a message is refused, not cut."""
    async with echo_service() as (_, stub):
        with pytest.raises(ExhaustedError):
            await call(stub.unary, text("x" * 17_000_000), timeout_s=60)
        assert (await call(stub.unary, text("x" * 15_000_000), timeout_s=60)).value[-1] == "x"


async def test_health_follows_serving_for_server_and_service() -> None:
    """NOT_SERVING from the start, until told otherwise."""
    async with echo_service() as (server, _), channel(server.address) as open_channel:
        stub = health_pb2_grpc.HealthStub(open_channel)
        assert {await health_of(stub, name) for name in ("", ECHO)} == {"NOT_SERVING"}

        await server.set_serving(True)
        assert {await health_of(stub, name) for name in ("", ECHO)} == {"SERVING"}


async def test_reflection_lists_the_services() -> None:
    """Grpcurl finds them without proto files."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with echo_service() as (server, _), channel(server.address) as open_channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(open_channel)
        duplex = stub.ServerReflectionInfo(iter([request]), timeout=60)
        response = await duplex.read()
        duplex.cancel()

    names = {service.name for service in response.list_services_response.service}
    assert names >= {ECHO, "grpc.health.v1.Health"}


async def test_port_in_use_is_one_sentence() -> None:
    """It says which address, and what to do; two servers never share a port."""
    async with echo_service() as (server, _):
        with pytest.raises(CannotListenError, match=f"{server.address}: it is in use; stop"):
            await serve([], server.address)


async def test_calls_are_counted_by_method_and_code() -> None:
    """The histogram's count says how many there were."""

    def count() -> float:
        labels = {"method": f"/{ECHO}/Unary", "code": "INVALID_ARGUMENT"}
        return REGISTRY.get_sample_value("k2_rpc_seconds_count", labels) or 0

    before = count()
    async with echo_service(refuse) as (_, stub):
        with pytest.raises(InvalidError):
            await call(stub.unary, text(""))

    await eventually(lambda: count() == before + 1)
