"""Reach a service of the running K2; where it is just starting again, wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from rich.console import Console

from libs.market.errors import UnavailableError
from libs.rpc.client import channel
from libs.runtime.doors import Door
from tools.cli.doors.health import is_serving
from tools.cli.doors.home import address_of, given_address, home, running
from tools.cli.doors.owner import OWNER

# As long as `k2 up` itself gives a service to start.
RESTART_TIMEOUT_S = 60.0
POLL_S = 0.1


@asynccontextmanager
async def service_channel(service: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a service, once it serves where `k2 up` keeps it running.

    Raises:
        UnavailableError: nothing runs here, or it does not come back in time.
    """
    if given_address(service) is None and OWNER in running() and not await _serves(service):
        await _wait(service)
    async with channel(address_of(service)) as connection:
        yield connection


async def _wait(service: str) -> None:
    """Wait until a service serves again; one that listens by then may say itself what it lacks."""
    began_s = time.monotonic()
    console = Console(stderr=True)
    with console.status(f"the {service} service is starting again: waiting for it"):
        while OWNER in running():
            if await _serves(service):
                return
            if time.monotonic() - began_s > RESTART_TIMEOUT_S:
                break
            await asyncio.sleep(POLL_S)
    if OWNER in running() and _door_of(service) is None:
        raise UnavailableError(
            f"the {service} service of this K2 has not come back within {RESTART_TIMEOUT_S:g} s:"
            f" see {home() / 'up' / 'logs' / f'{service}-1.log'}",
            service=service,
        )


async def _serves(service: str) -> bool:
    door = _door_of(service)
    return door is not None and door.grpc is not None and await is_serving(door.grpc)


def _door_of(service: str) -> Door | None:
    return next((door for door in running().values() if door.service == service), None)
