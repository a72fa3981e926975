"""What the consumer has for the batcher, which may be full."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from libs.market.errors import K2Error
from services.writer.messages import Accept, Fetched, Flush, Flushed

if TYPE_CHECKING:
    from services.writer.batching.batcher import Batcher

log = structlog.get_logger()
OFFER_AGAIN_S = 0.02


class Outbox:
    """Messages in order; what the batcher does not take now waits here, and holds the polling."""

    def __init__(self, batcher: Batcher, *, hand_over_s: float) -> None:
        self._batcher = batcher
        self._hand_over_s = hand_over_s
        self._messages: deque[Fetched | Flush | Accept] = deque()

    def __bool__(self) -> bool:
        return bool(self._messages)

    def put(self, message: Fetched | Flush | Accept) -> None:
        self._messages.append(message)

    def clear(self) -> None:
        self._messages.clear()

    def offer(self) -> None:
        """Give the batcher what it takes now, without waiting."""
        while self._messages and self._batcher.mailbox.offer(self._messages[0]):
            self._messages.popleft()

    async def hand_over(self) -> None:
        """Have what was fetched committed before its partitions go to another writer.

        Best effort: what is not committed by then is read again by whoever has the partition.
        """
        reply: asyncio.Future[Flushed] = asyncio.get_running_loop().create_future()
        self.put(Flush(reply))
        try:
            async with asyncio.timeout(self._hand_over_s):
                while self._messages and not reply.done():
                    self.offer()
                    await asyncio.wait({reply}, timeout=OFFER_AGAIN_S)
                await reply
        except (TimeoutError, K2Error) as error:
            log.warning("handed_over_uncommitted", why=str(error) or "no commit in time")
