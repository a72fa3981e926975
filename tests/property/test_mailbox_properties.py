"""Whatever is sent, received, cancelled and closed in any order: bounded, and nothing lost."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from libs.runtime.mailbox import Mailbox, MailboxClosedError

STEPS = st.lists(
    st.sampled_from(["send", "receive", "cancel_sender", "cancel_receiver", "yield", "close"]),
    max_size=60,
)


class Traffic:
    """Senders and receivers of one mailbox, driven step by step."""

    def __init__(self, capacity: int) -> None:
        self.mailbox: Mailbox[int] = Mailbox("traffic", capacity)
        self.senders: list[asyncio.Task[int]] = []
        self.receivers: list[asyncio.Task[int]] = []

    async def send(self) -> None:
        self.senders.append(asyncio.create_task(self._send(len(self.senders))))

    async def receive(self) -> None:
        self.receivers.append(asyncio.create_task(self.mailbox.get()))

    async def cancel_sender(self) -> None:
        self._cancel_one(self.senders)

    async def cancel_receiver(self) -> None:
        self._cancel_one(self.receivers)

    async def close(self) -> None:
        self.mailbox.close()

    async def finish(self) -> tuple[list[int], list[int]]:
        """Close and drain; returns what went in and what came out."""
        for _ in range(3):
            await asyncio.sleep(0)
            assert self.mailbox.depth <= self.mailbox.capacity
        self.mailbox.close()
        accepted = await self._results(self.senders)
        received = await self._results(self.receivers)
        while self.mailbox.depth:
            received.append(await self.mailbox.get())
        return accepted, received

    async def _send(self, number: int) -> int:
        await self.mailbox.put(number)
        return number

    @staticmethod
    def _cancel_one(tasks: list[asyncio.Task[int]]) -> None:
        for task in tasks:
            if not task.done() and task.cancel():
                return

    @staticmethod
    async def _results(tasks: list[asyncio.Task[int]]) -> list[int]:
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, int | asyncio.CancelledError | MailboxClosedError)
        return [outcome for outcome in outcomes if isinstance(outcome, int)]


@given(steps=STEPS, capacity=st.integers(1, 3))
def test_each_accepted_message_comes_out_once(steps: list[str], capacity: int) -> None:
    """What `put` accepted is received exactly once; what it refused or gave up, never."""

    async def scenario() -> None:
        traffic = Traffic(capacity)
        for step in steps:
            if step == "yield":
                await asyncio.sleep(0)
            else:
                await getattr(traffic, step)()
            assert traffic.mailbox.depth <= capacity
        accepted, received = await traffic.finish()
        assert sorted(received) == sorted(accepted)

    asyncio.run(scenario())


@given(messages=st.lists(st.integers(), max_size=50), capacity=st.integers(1, 5))
def test_one_sender_keeps_its_order(messages: list[int], capacity: int) -> None:
    """First in, first out."""

    async def scenario() -> list[int]:
        mailbox: Mailbox[int] = Mailbox("ordered", capacity)

        async def send_all() -> None:
            for message in messages:
                await mailbox.put(message)
            mailbox.close()

        sender = asyncio.create_task(send_all())
        received = []
        while True:
            try:
                received.append(await mailbox.get())
            except MailboxClosedError:
                break
        await sender
        return received

    assert asyncio.run(scenario()) == messages
