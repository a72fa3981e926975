"""Actors: one task, one mailbox, one piece of state that nobody else touches."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from libs.market.errors import UnavailableError
from libs.runtime.mailbox import Mailbox, MailboxClosedError

M = TypeVar("M")
R = TypeVar("R")


class Actor(ABC):
    """What a supervisor runs: `start`, `run`, `close`, and the three again after a failure."""

    name: str

    async def start(self) -> None:  # noqa: B027 (most actors have nothing to acquire)
        """Acquire what a run needs; called before each run."""

    @abstractmethod
    async def run(self) -> None:
        """Work until stopped. Returning means done, raising means failed."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop taking in; `run` then drains and returns. May be called more than once."""

    async def close(self) -> None:  # noqa: B027 (most actors have nothing to release)
        """Release what `start` acquired; called after each run, and after a start that failed."""


class MailboxActor(Actor, Generic[M]):
    """Handle messages one at a time, in the order of arrival.

    The mailbox outlives a failure. With `redeliver` the message in hand does too: after the
    restart it is handled again before all others, so `handle` must bear to see it twice.
    """

    def __init__(self, name: str, *, capacity: int = 64, redeliver: bool = False) -> None:
        self.name = name
        self.mailbox: Mailbox[M] = Mailbox(name, capacity)
        self._redeliver = redeliver
        self._in_hand: list[M] = []
        self._handling = False

    @property
    def idle(self) -> bool:
        """True while nothing waits and nothing is being handled. May be asked from any thread."""
        return not self._handling and not self.mailbox.depth

    @abstractmethod
    async def handle(self, message: M) -> None: ...

    async def tell(self, message: M) -> None:
        """Send a message, waiting while the mailbox is full.

        Raises:
            MailboxClosedError: the actor is stopping.
        """
        await self.mailbox.put(message)

    async def run(self) -> None:
        while await self._take():
            await self._handle_in_hand()

    async def stop(self) -> None:
        self.mailbox.close()

    async def _take(self) -> bool:
        if self._in_hand:
            return True
        try:
            self._in_hand.append(await self.mailbox.get())
        except MailboxClosedError:
            return False
        return True

    async def _handle_in_hand(self) -> None:
        message = self._in_hand[0] if self._redeliver else self._in_hand.pop()
        self._handling = True
        try:
            await self.handle(message)
        finally:
            self._handling = False
        self._in_hand.clear()


async def ask(
    actor: MailboxActor[M],
    make_message: Callable[[asyncio.Future[R]], M],
    *,
    timeout_s: float,
) -> R:
    """Send a message that carries a future, and wait for what the actor puts there.

    The actor answers with `answer`, for the future is cancelled when nobody waits any more.

    Raises:
        UnavailableError: no answer within `timeout_s`, or the actor is stopping.
    """
    reply: asyncio.Future[R] = asyncio.get_running_loop().create_future()
    try:
        async with asyncio.timeout(timeout_s):
            await actor.tell(make_message(reply))
            return await reply
    except TimeoutError as error:
        text = f"{actor.name} did not answer within {timeout_s:g} s"
        raise UnavailableError(text, actor=actor.name) from error


def answer(reply: asyncio.Future[R], result: R) -> None:
    """Answer an `ask`; nothing happens where nobody waits any more."""
    if not reply.done():
        reply.set_result(result)


def refuse(reply: asyncio.Future[R], error: Exception) -> None:
    """Answer an `ask` with an error; nothing happens where nobody waits any more."""
    if not reply.done():
        reply.set_exception(error)
