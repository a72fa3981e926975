"""The simulated exchange's own controls: its faults, its pause, how far it is."""

from __future__ import annotations

from typing import TypeVar

import aiohttp
import msgspec

from libs.market.errors import InvalidError, UnavailableError
from libs.runtime.doors import Door
from tools.simulator.faults import Fault, Injected

T = TypeVar("T")
ASK_TIMEOUT_S = 5.0


class SessionState(msgspec.Struct, frozen=True):
    """How far the session is: trades that have passed, sent or withheld."""

    trades: int = 0
    sent: int = 0


class FaultState(msgspec.Struct, frozen=True):
    """What was done wrong on purpose, and what is still to come."""

    injected: list[Injected] = []
    waiting: list[Fault] = []


async def state_of(door: Door) -> SessionState:
    """Ask how far the session is."""
    return await _ask(door, "GET", "session", None, SessionState)


async def faults_of(door: Door) -> FaultState:
    """Ask what was injected."""
    return await _ask(door, "GET", "faults", None, FaultState)


async def inject(door: Door, fault: Fault) -> None:
    """Have it misbehave."""
    await _ask(door, "POST", "fault", msgspec.json.encode(fault), dict)


async def pause(door: Door) -> None:
    """Have the session stand still; what is on its way goes out."""
    await _ask(door, "POST", "pause", None, dict)


async def _ask(door: Door, method: str, what: str, body: bytes | None, kind: type[T]) -> T:
    """Speak to it.

    Raises:
        UnavailableError: it does not answer.
        InvalidError: it refuses.
    """
    url = f"http://{door.extra['http']}/control/{what}"
    timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as client,
            client.request(method, url, data=body) as answer,
        ):
            said = await answer.read()
    except (TimeoutError, aiohttp.ClientError) as error:
        raise UnavailableError(f"the exchange does not answer at {url}", url=url) from error
    if answer.status >= 400:
        raise InvalidError(f"the exchange refuses {what}: {said.decode()}", field=what)
    return msgspec.json.decode(said, type=kind)
