"""Asking an actor: answered, refused, too late, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from libs.market.errors import InvalidError, UnavailableError
from libs.runtime.actor import MailboxActor, answer, ask, refuse
from libs.runtime.mailbox import MailboxClosedError
from libs.runtime.supervisor import Supervisor
from tests.support.actors import WITHOUT_WAITING, supervised
from tests.support.polling import eventually


@dataclass(frozen=True, slots=True)
class Double:
    number: int
    reply: asyncio.Future[int]


class Doubler(MailboxActor[Double]):
    """Doubles small numbers, refuses large ones, forgets zero, and waits where told to."""

    def __init__(self) -> None:
        super().__init__("doubler")
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.handled = 0

    async def handle(self, message: Double) -> None:
        await self.may_answer.wait()
        self.handled += 1
        if message.number > 100:
            refuse(message.reply, InvalidError("too large", field="number"))
        elif message.number:
            answer(message.reply, message.number * 2)


@pytest.fixture
async def doubler() -> AsyncIterator[Doubler]:
    actor = Doubler()
    async with supervised(Supervisor([actor], policy=WITHOUT_WAITING)):
        yield actor


async def double(actor: Doubler, number: int, *, timeout_s: float = 5) -> int:
    return await ask(actor, lambda reply: Double(number, reply), timeout_s=timeout_s)


async def test_ask_returns_the_answer(doubler: Doubler) -> None:
    """Each to who asked, also many at once."""
    assert await double(doubler, 21) == 42
    assert await asyncio.gather(*(double(doubler, n) for n in (1, 2, 3))) == [2, 4, 6]


async def test_ask_raises_what_the_actor_refuses_with(doubler: Doubler) -> None:
    """The actor itself goes on."""
    with pytest.raises(InvalidError, match="too large"):
        await double(doubler, 101)
    assert await double(doubler, 1) == 2


async def test_ask_without_an_answer_times_out(doubler: Doubler) -> None:
    """The error names the actor and the time."""
    with pytest.raises(UnavailableError, match=r"doubler did not answer within 0.05 s"):
        await double(doubler, 0, timeout_s=0.05)


async def test_late_answer_does_no_harm(doubler: Doubler) -> None:
    """Nobody waits any more: for the answer nor for the refusal."""
    doubler.may_answer.clear()
    for number in (1, 101):
        with pytest.raises(UnavailableError):
            await double(doubler, number, timeout_s=0.02)
    doubler.may_answer.set()

    await eventually(lambda: doubler.handled == 2)
    assert await double(doubler, 4) == 8


async def test_ask_of_a_stopping_actor_is_refused(doubler: Doubler) -> None:
    """At once, not after the timeout."""
    await doubler.stop()

    with pytest.raises(MailboxClosedError):
        await double(doubler, 1)
