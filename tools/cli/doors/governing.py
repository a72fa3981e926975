"""Reach the governor that leads, or any that answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import grpc
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1.governor_pb2_grpc import GovernorServiceStub

from libs.market.errors import K2Error, UnavailableError
from libs.rpc.client import call, channel
from tools.cli.doors.home import given_address, running
from tools.cli.doors.reaching import service_channel

ASK_TIMEOUT_S = 3.0


@asynccontextmanager
async def governor_channel(
    *, leading: bool = False, among: Sequence[str] = ()
) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to the governor that leads; where none does, to any unless `leading`.

    `among` are addresses; without them those of the running K2.

    Raises:
        UnavailableError: none runs here, none answers, or none leads.
    """
    addresses = list(among) or _known()
    if not addresses:
        # Says what is wrong, and waits where `k2 up` just starts it again.
        async with service_channel("governor") as connection:
            yield connection
        return
    async with channel(await _choose(addresses, leading=leading)) as connection:
        yield connection


def _known() -> list[str]:
    given = given_address("governor")
    if given:
        return [address.strip() for address in given.split(",")]
    doors = running().values()
    return [door.grpc for door in doors if door.service == "governor" and door.grpc]


async def _choose(addresses: Iterable[str], *, leading: bool) -> str:
    answering: dict[str, pb.State] = {}
    waiting = [*addresses]
    while waiting:
        address = waiting.pop(0)
        state = await _state(address)
        if state is None:
            continue
        if state.leading:
            return address
        answering[address] = state
        named = state.leader.address
        if named and named not in answering and named not in waiting:
            waiting.append(named)
    if answering and not leading:
        return next(iter(answering))
    raise UnavailableError(_why(answering, addresses))


def _why(answering: dict[str, pb.State], addresses: Iterable[str]) -> str:
    for state in answering.values():
        return f"no governor leads now: {state.directive.explanation.rstrip('.')}"
    return f"no governor answers at {', '.join(addresses)}"


async def _state(address: str) -> pb.State | None:
    async with channel(address) as connection:
        stub = GovernorServiceStub(connection)
        try:
            answer = await call(stub.GetState, pb.GetStateRequest(), timeout_s=ASK_TIMEOUT_S)
        except K2Error:
            return None
    return answer.state
