"""Ctrl-C and SIGTERM: the first one stops in order, more of them change nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import TypeVar

R = TypeVar("R")


class Interrupted(KeyboardInterrupt):
    """Somebody asked us to end, and everything has been stopped."""


async def until_interrupted(work: Coroutine[None, None, R]) -> R:
    """Run `work`; on Ctrl-C or SIGTERM cancel it and wait until it has cleaned up.

    Raises:
        Interrupted: it was cancelled that way.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def interrupt() -> None:
        if not asked.is_set():
            asked.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if asked.is_set():
            raise Interrupted from None
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
