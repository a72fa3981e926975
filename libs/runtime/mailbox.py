"""Bounded, closable FIFO between actors: a full one makes its senders wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from libs.market.errors import UnavailableError

M = TypeVar("M")


class MailboxClosedError(UnavailableError):
    """The actor behind the mailbox takes no more messages."""

    reason = "MAILBOX_CLOSED"


class Mailbox(Generic[M]):
    """Messages in the order of arrival, at most `capacity` at a time.

    For one event loop. A cancelled `put` has put nothing, a cancelled `get` has taken nothing.
    """

    def __init__(self, name: str, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"mailbox {name!r} needs a capacity of at least 1, not {capacity}")
        self.name = name
        self.capacity = capacity
        self._messages: deque[M] = deque()
        self._senders: deque[asyncio.Future[None]] = deque()
        self._receivers: deque[asyncio.Future[None]] = deque()
        self._closed = False
        _MAILBOXES[id(self)] = self

    @property
    def depth(self) -> int:
        """Messages waiting."""
        return len(self._messages)

    @property
    def closed(self) -> bool:
        return self._closed

    async def put(self, message: M) -> None:
        """Add a message, waiting while the mailbox is full.

        Raises:
            MailboxClosedError: closed, before or while waiting; the message is not in.
        """
        while self._full and not self._closed:
            await _wait_in(self._senders)
        self._refuse_if_closed()
        self._add(message)

    def offer(self, message: M) -> bool:
        """Add a message without waiting; False where the mailbox is full.

        Raises:
            MailboxClosedError: closed; the message is not in.
        """
        self._refuse_if_closed()
        if self._full:
            return False
        self._add(message)
        return True

    async def get(self) -> M:
        """Take the oldest message, waiting for one.

        Raises:
            MailboxClosedError: closed, and every message has been taken.
        """
        while not self._messages:
            self._refuse_if_closed()
            await _wait_in(self._receivers)
        message = self._messages.popleft()
        _wake_one(self._senders)
        return message

    def close(self) -> None:
        """Take no more messages; those inside can still be taken."""
        self._closed = True
        _wake_all(self._senders)
        _wake_all(self._receivers)

    @property
    def _full(self) -> bool:
        return len(self._messages) >= self.capacity

    def _add(self, message: M) -> None:
        self._messages.append(message)
        _wake_one(self._receivers)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise MailboxClosedError(f"{self.name} takes no more messages", actor=self.name)


async def _wait_in(waiters: deque[asyncio.Future[None]]) -> None:
    waiter = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    except asyncio.CancelledError:
        with suppress(ValueError):
            waiters.remove(waiter)
        # Woken and cancelled at once: the wake-up belongs to the next in line.
        if waiter.done() and not waiter.cancelled():
            _wake_one(waiters)
        raise


def _wake_one(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return


def _wake_all(waiters: deque[asyncio.Future[None]]) -> None:
    for _ in range(len(waiters)):
        _wake_one(waiters)


class _MailboxGauges(Collector):
    """Reads depths when Prometheus asks, so that a message costs nothing."""

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily(
            "k2_mailbox_depth", "Messages that wait for an actor", labels=["actor"]
        )
        capacity = GaugeMetricFamily(
            "k2_mailbox_capacity", "Most messages that can wait for an actor", labels=["actor"]
        )
        # valuerefs() copies in one step: this runs in the metrics page's thread.
        living = [m for ref in _MAILBOXES.valuerefs() if (m := ref()) is not None]
        for mailbox in {m.name: m for m in living}.values():
            depth.add_metric([mailbox.name], mailbox.depth)
            capacity.add_metric([mailbox.name], mailbox.capacity)
        yield depth
        yield capacity


_MAILBOXES: WeakValueDictionary[int, Mailbox[Any]] = WeakValueDictionary()
REGISTRY.register(_MailboxGauges())
