"""Ask a service whether it serves, by the standard health protocol."""

from __future__ import annotations

from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.market.errors import K2Error
from libs.rpc.client import call, channel

HEALTH_TIMEOUT_S = 2.0


async def is_serving(address: str) -> bool:
    """Return whether the whole server at `address` answers SERVING."""
    async with channel(address) as connection:
        stub = health_pb2_grpc.HealthStub(connection)
        try:
            answer = await call(
                stub.Check, health_pb2.HealthCheckRequest(), timeout_s=HEALTH_TIMEOUT_S
            )
        except K2Error:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
