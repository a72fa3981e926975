"""A service: its actors, gRPC server, metrics page and door, run and stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from libs.rpc import server as rpc
from libs.runtime import doors
from libs.runtime.actor import Actor
from libs.runtime.restarts import RestartPolicy
from libs.runtime.supervisor import Supervisor
from libs.telemetry import metrics

log = structlog.get_logger()
READY_POLL_S = 0.05


async def _nothing() -> None:
    """Release nothing: most services hold nothing beside their actors."""


def _no_matter(_: str) -> None:
    """Most services need not know where they listen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What `services/<kind>/app.py` wires together.

    `actors` start in this order and stop in reverse: name the downstream one first. `listening`
    hears the gRPC address before they start. `ready` is polled, cheap and without I/O. `release`
    runs last, also after a failure. Who sets `restart_asked` has the process stopped in order, and
    ended with a code that asks for another.
    """

    name: str
    kind: str
    actors: Sequence[Actor]
    servicers: Sequence[rpc.Servicer]
    grpc_address: str
    metrics_address: str | None = None
    ready: Callable[[], bool] = lambda: True
    listening: Callable[[str], None] = _no_matter
    release: Callable[[], Awaitable[None]] = _nothing
    rpc_options: Sequence[tuple[str, int]] = ()
    run_dir: Path | None = None
    door_extra: dict[str, str] = field(default_factory=dict)
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    stop_order: Sequence[Actor] | None = None
    stop_timeout_s: float = 20
    rpc_grace_s: float = 2
    restart_asked: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that listens; `ended` raises where its actors or its `ready` failed."""

    service: Service
    grpc_address: str
    metrics_address: str | None
    _tasks: tuple[asyncio.Task[None], ...]

    async def ended(self) -> None:
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done():
                task.result()


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[RunningService]:
    """Run a service while the body runs, then stop it in order.

    Health goes to NOT_SERVING, then each actor stops and drains, then calls under way end, then
    the door is withdrawn. Usable in tests as it is.

    Raises:
        CannotListenError: an address is in use; ConflictError: the name is.
        RestartIntensityError, DrainError: on leaving, where the actors ended so.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(service.release)
        server = await rpc.serve(
            service.servicers, service.grpc_address, options=service.rpc_options
        )
        stack.push_async_callback(server.stop, service.rpc_grace_s)
        metrics_address = _open_metrics(service, stack)
        _open_door(service, server.address, metrics_address, stack)
        service.listening(server.address)
        supervisor = Supervisor(
            service.actors,
            policy=service.policy,
            stop_timeout_s=service.stop_timeout_s,
            stop_order=service.stop_order,
        )
        actors = asyncio.create_task(supervisor.run(), name=f"{service.name} actors")
        stack.push_async_callback(_stop_actors, supervisor, actors)
        health = asyncio.create_task(
            _follow_readiness(service, supervisor, server), name=f"{service.name} health"
        )
        stack.push_async_callback(_stop_serving, server, health)
        yield RunningService(service, server.address, metrics_address, (actors, health))


def _open_metrics(service: Service, stack: AsyncExitStack) -> str | None:
    if service.metrics_address is None:
        return None
    page = metrics.serve(service.metrics_address)
    stack.push_async_callback(asyncio.to_thread, page.stop)
    return page.address


def _open_door(
    service: Service, grpc_address: str, metrics_address: str | None, stack: AsyncExitStack
) -> None:
    log.info("listening", grpc=grpc_address, metrics=metrics_address)
    if service.run_dir is None:
        return
    door = doors.Door(
        name=service.name,
        service=service.kind,
        grpc=grpc_address,
        metrics=metrics_address,
        extra=service.door_extra,
    )
    doors.publish(service.run_dir, door)
    stack.callback(doors.withdraw, service.run_dir, door)


async def _follow_readiness(
    service: Service, supervisor: Supervisor, server: rpc.RunningServer
) -> None:
    """Keep health at what the service says of itself."""
    was: bool | None = None
    while True:
        serving = supervisor.started and service.ready()
        if serving != was:
            await server.set_serving(serving)
            if serving or was:
                log.info("serving" if serving else "not_serving", grpc=server.address)
        was = serving
        await asyncio.sleep(READY_POLL_S)


async def _stop_serving(server: rpc.RunningServer, health: asyncio.Task[None]) -> None:
    health.cancel()
    await asyncio.gather(health, return_exceptions=True)
    await server.set_serving(False)


async def _stop_actors(supervisor: Supervisor, actors: asyncio.Task[None]) -> None:
    await supervisor.stop()
    await actors
