"""A gRPC server with health, reflection and K2's errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from libs.market.errors import UnavailableError
from libs.rpc.interceptors import Boundary
from libs.rpc.sizes import SIZE_OPTIONS
from libs.telemetry.ports import free_port, split_address

OPTIONS = (
    *SIZE_OPTIONS,
    # Otherwise two processes share a port without a word, and calls go to either.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

# The generated `add_<X>Servicer_to_server`, the servicer, and the service's full name.
Servicer: TypeAlias = tuple[Callable[[Any, grpc.aio.Server], None], object, str]


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that listens at `address`; NOT_SERVING until told otherwise."""

    address: str
    _server: grpc.aio.Server
    _health: health.aio.HealthServicer
    _names: tuple[str, ...]

    async def set_serving(self, serving: bool) -> None:
        """Set the health of every service, and of "" for the whole server."""
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, grace_s: float = 5) -> None:
        """Refuse new calls, give those under way `grace_s`, then cancel them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


async def serve(
    servicers: Sequence[Servicer], address: str, *, options: Sequence[tuple[str, int]] = ()
) -> RunningServer:
    """Serve at `address` (host:port; port 0 takes a free one) until stopped.

    Raises:
        CannotListenError: the address is in use or not of this machine.
    """
    server = grpc.aio.server(interceptors=(Boundary(),), options=(*OPTIONS, *options))
    names = ("", *(name for _, _, name in servicers))
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    for add_to_server, servicer, _ in servicers:
        add_to_server(servicer, server)
    described = (*names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(described, server)
    running = RunningServer(_bind(server, address), server, health_servicer, names)
    await running.set_serving(False)
    await server.start()
    return running


def _bind(server: grpc.aio.Server, address: str) -> str:
    # grpcio prints lines of its own when binding fails, and does not say why it did.
    free_port(address)
    host, port = split_address(address)
    try:
        return f"{host}:{server.add_insecure_port(f'{host}:{port}')}"
    except RuntimeError as error:
        raise UnavailableError(f"cannot listen on {address}", address=address) from error
