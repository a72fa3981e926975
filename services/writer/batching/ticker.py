"""Tells the batcher that time has passed: a buffer falls due also in silence."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from libs.runtime.actor import Actor
from libs.runtime.mailbox import MailboxClosedError
from services.writer.batching.batcher import Batcher
from services.writer.messages import Tick

TICK_S = 0.1


class Ticker(Actor):
    """A full mailbox needs no tick: the messages in it will do."""

    name = "ticker"

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._stopping.wait()
            self.tick()

    def tick(self) -> None:
        """Have the batcher look what is due now."""
        with suppress(MailboxClosedError):
            self._batcher.mailbox.offer(Tick())

    async def stop(self) -> None:
        self._stopping.set()
