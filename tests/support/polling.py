"""Wait for what should come to be, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")
POLL_S = 0.02


@overload
async def eventually(
    predicate: Callable[[], Awaitable[T | None]],
    timeout_s: float = 10,
    *,
    what: str = "",
    poll_s: float = POLL_S,
) -> T: ...
@overload
async def eventually(
    predicate: Callable[[], T | None],
    timeout_s: float = 10,
    *,
    what: str = "",
    poll_s: float = POLL_S,
) -> T: ...
async def eventually(
    predicate: Callable[[], object],
    timeout_s: float = 10,
    *,
    what: str = "",
    poll_s: float = POLL_S,
) -> object:
    """Call `predicate` (plain or async) until it returns something true, and return that.

    Raises:
        AssertionError: it did not within `timeout_s`; the message has what it returned last.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = predicate()
        result = await found if inspect.isawaitable(found) else found
        if result:
            return result
        if time.monotonic() > deadline_s:
            wanted = what or getattr(predicate, "__name__", "it")
            raise AssertionError(f"{wanted}: not within {timeout_s:g} s; last was {result!r}")
        await asyncio.sleep(poll_s)


def eventually_sync(
    predicate: Callable[[], T | None], timeout_s: float = 10, *, what: str = ""
) -> T:
    """Do the same from a test without an event loop."""
    deadline_s = time.monotonic() + timeout_s
    while not (result := predicate()):
        if time.monotonic() > deadline_s:
            wanted = what or getattr(predicate, "__name__", "it")
            raise AssertionError(f"{wanted}: not within {timeout_s:g} s; last was {result!r}")
        time.sleep(POLL_S)
    return result
