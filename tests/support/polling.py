"""Wait for what should come to be, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

from libs.market.errors import UnavailableError

T = TypeVar("T")
POLL_S = 0.02
# A deadline ends a test that hangs; it times nothing. No busy machine needs as long.
PATIENCE_S = 60.0


@overload
async def eventually(
    predicate: Callable[[], Awaitable[T | None]],
    timeout_s: float = PATIENCE_S,
    *,
    what: str = "",
    poll_s: float = POLL_S,
) -> T: ...
@overload
async def eventually(
    predicate: Callable[[], T | None],
    timeout_s: float = PATIENCE_S,
    *,
    what: str = "",
    poll_s: float = POLL_S,
) -> T: ...
async def eventually(
    predicate: Callable[[], object],
    timeout_s: float = PATIENCE_S,
    *,
    what: str = "",
    poll_s: float = POLL_S,
) -> object:
    """Call `predicate` (plain or async) until it returns something true, and return that.

    It has PATIENCE_S at least. One who does not answer is asked again.

    Raises:
        AssertionError: it did not within `timeout_s`; the message has what it returned last.
    """
    patience_s = max(timeout_s, PATIENCE_S)
    deadline_s = time.monotonic() + patience_s
    while True:
        result = await _asked(predicate)
        if result and not isinstance(result, UnavailableError):
            return result
        if time.monotonic() > deadline_s:
            raise AssertionError(_unmet(predicate, what, patience_s, result))
        await asyncio.sleep(poll_s)


def eventually_sync(
    predicate: Callable[[], T | None], timeout_s: float = PATIENCE_S, *, what: str = ""
) -> T:
    """Do the same from a test without an event loop."""
    patience_s = max(timeout_s, PATIENCE_S)
    deadline_s = time.monotonic() + patience_s
    while not (result := predicate()):
        if time.monotonic() > deadline_s:
            raise AssertionError(_unmet(predicate, what, patience_s, result))
        time.sleep(POLL_S)
    return result


async def within(predicate: Callable[[], T | None], seconds: float) -> T | None:
    """Give what may come and may not so long; return the last answer."""
    deadline_s = time.monotonic() + seconds
    while not (result := predicate()) and time.monotonic() < deadline_s:
        await asyncio.sleep(POLL_S)
    return result


async def _asked(predicate: Callable[[], object]) -> object:
    try:
        found = predicate()
        return await found if inspect.isawaitable(found) else found
    except UnavailableError as error:
        return error


def _unmet(predicate: Callable[[], object], what: str, patience_s: float, last: object) -> str:
    wanted = what or getattr(predicate, "__name__", "it")
    return f"{wanted}: not within {patience_s:g} s; last was {last!r}"
