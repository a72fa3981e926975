"""A bounded mailbox: order, back-pressure, closing, cancelling, depth."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from libs.runtime.mailbox import Mailbox, MailboxClosedError


def depth_gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value("k2_mailbox_depth", {"actor": name})


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_put_waits_while_full() -> None:
    """Back-pressure: the sender goes on only once a message has been taken."""
    mailbox: Mailbox[int] = Mailbox("small", 2)
    await mailbox.put(1)
    await mailbox.put(2)
    sender = asyncio.create_task(mailbox.put(3))
    await settle()

    assert not sender.done()
    assert mailbox.depth == 2
    assert await mailbox.get() == 1
    await sender
    assert [await mailbox.get(), await mailbox.get()] == [2, 3]


async def test_offer_refuses_when_full() -> None:
    """`offer` never waits."""
    mailbox: Mailbox[int] = Mailbox("small", 1)

    assert mailbox.offer(1)
    assert not mailbox.offer(2)
    assert mailbox.depth == 1


async def test_newcomer_cannot_overfill() -> None:
    """Who takes the place of a sender that was just woken makes it wait again."""
    mailbox: Mailbox[int] = Mailbox("small", 1)
    await mailbox.put(1)
    sender = asyncio.create_task(mailbox.put(2))
    await settle()

    assert await mailbox.get() == 1
    assert mailbox.offer(3)
    await settle()

    assert not sender.done()
    assert mailbox.depth == 1
    assert [await mailbox.get(), await mailbox.get()] == [3, 2]
    await sender


async def test_closed_mailbox_gives_what_is_inside() -> None:
    """Closing loses nothing: `get` refuses only once all has been taken."""
    mailbox: Mailbox[int] = Mailbox("closing", 4)
    await mailbox.put(1)
    await mailbox.put(2)
    mailbox.close()

    assert [await mailbox.get(), await mailbox.get()] == [1, 2]
    with pytest.raises(MailboxClosedError):
        await mailbox.get()


async def test_close_wakes_all_who_wait() -> None:
    """Senders and receivers hear of it at once, and no message slips in."""
    full: Mailbox[int] = Mailbox("full", 1)
    empty: Mailbox[int] = Mailbox("empty", 1)
    await full.put(1)
    waiting = [asyncio.create_task(full.put(n)) for n in (2, 3)]
    waiting_for_one = [asyncio.create_task(empty.get()) for _ in range(2)]
    await settle()

    full.close()
    empty.close()

    outcomes = await asyncio.gather(*waiting, *waiting_for_one, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [MailboxClosedError] * 4
    assert full.depth == 1


async def test_put_and_offer_refuse_after_close() -> None:
    """The error names the actor."""
    mailbox: Mailbox[int] = Mailbox("batcher", 1)
    mailbox.close()

    with pytest.raises(MailboxClosedError, match="batcher"):
        await mailbox.put(1)
    with pytest.raises(MailboxClosedError, match="batcher"):
        mailbox.offer(1)


async def test_cancelled_get_passes_its_wake_up_on() -> None:
    """Woken and cancelled in the same turn: the other receiver gets the message."""
    mailbox: Mailbox[int] = Mailbox("cancelled", 1)
    first, second = (asyncio.create_task(mailbox.get()) for _ in range(2))
    await settle()

    assert mailbox.offer(7)
    first.cancel()

    assert await second == 7
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_depth_is_a_gauge() -> None:
    """Prometheus reads the depth of living mailboxes, by actor."""
    mailbox: Mailbox[int] = Mailbox("gauged", 3)
    await mailbox.put(1)
    await mailbox.put(2)

    assert depth_gauge("gauged") == 2
    assert REGISTRY.get_sample_value("k2_mailbox_capacity", {"actor": "gauged"}) == 3
    del mailbox
    assert depth_gauge("gauged") is None


def test_capacity_below_one_is_refused() -> None:
    """A mailbox that can hold nothing would block for ever."""
    with pytest.raises(ValueError, match="capacity"):
        Mailbox("none", 0)
