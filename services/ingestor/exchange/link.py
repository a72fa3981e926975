"""A session's connection, and what the session knows of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.ingestor.exchange.connection import FeedConnection

LEAST_PATIENCE_S = 0.05


@dataclass(slots=True)
class Link:
    """A connection with its number, which tells copies of one trade from repeats.

    `handed_over` where it was read until the next one carried its symbols.
    """

    number: int
    feed: FeedConnection
    opened_s: float
    handed_over: bool = False

    def patience_s(self, silence_s: float) -> float:
        """How long to wait for messages before asking whether the connection is silent."""
        return max(silence_s - self._heard_s_ago, LEAST_PATIENCE_S)

    def silent_for(self, silence_s: float) -> bool:
        """Tell whether nothing at all came, pings included, though the socket was read."""
        return self._heard_s_ago >= silence_s and not self.feed.held_back

    @property
    def _heard_s_ago(self) -> float:
        return asyncio.get_running_loop().time() - self.feed.heard_s
