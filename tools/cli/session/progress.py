"""How far the simulated exchange is in its session."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp
import msgspec

from libs.market.errors import UnavailableError
from libs.runtime.doors import Door

ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class SessionProgress:
    """Trades sent so far, and whether the session has ended."""

    sent: int = 0
    done: bool = False


async def progress_of(door: Door) -> SessionProgress:
    """Ask the simulator.

    Raises:
        UnavailableError: it does not answer.
    """
    url = f"http://{door.extra['http']}/control/session"
    timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as client, client.get(url) as answer:
            return msgspec.json.decode(await answer.read(), type=SessionProgress)
    except (TimeoutError, aiohttp.ClientError) as error:
        raise UnavailableError(f"the exchange does not answer at {url}", url=url) from error
