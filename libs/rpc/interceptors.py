"""What every call to a K2 server passes: errors become statuses, durations metrics and spans."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NoReturn, TypeAlias, cast

import grpc
import structlog
from opentelemetry import propagate, trace
from prometheus_client import Histogram

from libs.market.errors import K2Error
from libs.rpc.errors import DETAILS_KEY, code_of, message_of, to_status
from libs.telemetry import tracing

log = structlog.get_logger()
# Health is asked every second, and says nothing of what K2 does.
OF_GRPC_ITSELF = "/grpc."
SECONDS = Histogram(
    "k2_rpc_seconds",
    "Time of a gRPC call, from the request to the last response",
    ["method", "code"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)

# grpcio's handlers carry no message types at this level.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour: TypeAlias = Callable[[Any, Context], Any]
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Boundary(grpc.aio.ServerInterceptor):
    """Turn what a servicer raises into a google.rpc.Status, and time each call."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        if method not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._handlers[method] = _guarded(method, handler)
        return self._handlers[method]


def _guarded(method: str, handler: Handler) -> Handler:
    kind = "_".join(
        "stream" if streaming else "unary"
        for streaming in (handler.request_streaming, handler.response_streaming)
    )
    behaviour: Behaviour = getattr(handler, kind)
    guard = _guarded_stream if handler.response_streaming else _guarded_unary
    rebuild = getattr(grpc, f"{kind}_rpc_method_handler")
    return cast(
        Handler,
        rebuild(
            guard(method, behaviour),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        ),
    )


def _guarded_unary(method: str, behaviour: Behaviour) -> Behaviour:
    async def guarded(request: Any, context: Context) -> Any:
        with _observed(method, context):
            try:
                return await behaviour(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 (a caller must hear of any failure)
                await _abort(method, context, error)

    return guarded


def _guarded_stream(method: str, behaviour: Behaviour) -> Behaviour:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        with _observed(method, context):
            try:
                responses = behaviour(request, context)
                if inspect.isawaitable(responses):
                    await responses
                    return
                async with aclosing(responses):
                    async for response in responses:
                        yield response
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 (a caller must hear of any failure)
                await _abort(method, context, error)

    return guarded


async def _abort(method: str, context: Context, error: Exception) -> NoReturn:
    known = error if isinstance(error, K2Error) else _unexpected(method, error)
    details = to_status(known).SerializeToString()
    await context.abort(code_of(known), message_of(known), ((DETAILS_KEY, details),))


def _unexpected(method: str, error: Exception) -> K2Error:
    log.error("rpc_failed", method=method, exc_info=error)
    return K2Error("the service failed; its log says why", method=method)


@contextmanager
def _observed(method: str, context: Context) -> Iterator[None]:
    began_s = time.perf_counter()
    told = tracing.enabled() and not method.startswith(OF_GRPC_ITSELF)
    span = _span(method, context) if told else trace.INVALID_SPAN
    code = "CANCELLED"
    try:
        yield
        code = _code(context)
    except Exception:
        code = _code(context)
        raise
    finally:
        SECONDS.labels(method, code).observe(time.perf_counter() - began_s)
        span.set_attribute("rpc.grpc.status", code)
        span.end()


def _code(context: Context) -> str:
    code = cast(object, context.code())
    if isinstance(code, grpc.StatusCode):
        return code.name
    by_number = {c.value[0]: c.name for c in grpc.StatusCode}
    return by_number.get(cast(int, code), "OK")


def _span(method: str, context: Context) -> trace.Span:
    carrier = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
    return tracing.tracer("k2.rpc").start_span(
        method.lstrip("/"), context=propagate.extract(carrier), kind=trace.SpanKind.SERVER
    )
