"""Call K2's services: every call has a deadline, every error is a K2Error."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

import grpc

from libs.market.errors import K2Error, UnavailableError
from libs.rpc.errors import from_rpc_error
from libs.rpc.sizes import SIZE_OPTIONS

Q = TypeVar("Q")
R = TypeVar("R")

OPTIONS = (
    *SIZE_OPTIONS,
    ("grpc.enable_http_proxy", 0),
    # A service that restarts is found again within a second, not after two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
REFUSED = re.compile(r"ipv[46]:(?:%5B)?(?P<address>[^\s;]+?)(?:;|: )")


def channel(address: str, *, options: Sequence[tuple[str, int]] = ()) -> grpc.aio.Channel:
    """Open a channel; connecting waits for the first call."""
    return grpc.aio.insecure_channel(address, options=(*OPTIONS, *options))


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, *, timeout_s: float = 10
) -> R:
    """Make a unary call.

    Raises:
        K2Error: what the server raised, rebuilt; UnavailableError where it did not answer.
    """
    try:
        return await method(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise translated(error, timeout_s) from error


async def stream(
    method: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q, *, timeout_s: float | None = 60
) -> AsyncGenerator[R, None]:
    """Read a server stream; leaving it early cancels it on the server.

    Close it (`contextlib.aclosing`) where the loop may end early. `timeout_s` is for the whole
    stream; None is for one that is meant to stay open.

    Raises:
        K2Error: what the server raised, rebuilt; UnavailableError where it did not answer.
    """
    stream_call = method(request, timeout=timeout_s)
    try:
        async for response in stream_call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise translated(error, timeout_s) from error
    finally:
        stream_call.cancel()


def translated(error: grpc.aio.AioRpcError, timeout_s: float | None = None) -> K2Error:
    """Rebuild the server's error, or name who did not answer."""
    details = error.details() or ""
    refused = REFUSED.search(details)
    if error.code() is grpc.StatusCode.UNAVAILABLE and refused is not None:
        address = refused["address"]
        return UnavailableError(f"nothing answers at {address}", address=address)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and timeout_s is not None:
        return UnavailableError(f"no answer within {timeout_s:g} s", timeout_s=timeout_s)
    return from_rpc_error(error)


async def wait_until_ready(open_channel: grpc.aio.Channel, *, timeout_s: float) -> None:
    """Connect.

    Raises:
        UnavailableError: not connected within `timeout_s`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await open_channel.channel_ready()
    except TimeoutError as error:
        raise UnavailableError(f"no connection within {timeout_s:g} s") from error
