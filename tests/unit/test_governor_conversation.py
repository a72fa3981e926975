"""One stream: what is sent on it, and when it is taken for dead."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from k2.governor.v1 import governor_pb2 as pb

from libs.degradation.level import Level
from libs.degradation.messages import Directive, OwnReport, Report
from libs.degradation.protocol import directive_from_pb
from libs.market.clock import SystemClock
from libs.market.errors import UnavailableError
from services.governor.deciding.crossings import Crossing
from services.governor.directing.conversation import Conversation
from services.governor.observing.collector import ReportCollector
from services.governor.observing.fleet import Fleet
from services.governor.published import Published

NORMAL = Level.NORMAL
FIRST = Report("writer", "writer-1", 1, 10, 1, NORMAL, NORMAL, NORMAL, 0, OwnReport("k2-writer"))
ORDER = Directive(7, 3, 10.0, NORMAL, NORMAL, explanation="at rest", answers_ms=1_000)
TTL_S = 0.5


def conversation() -> Conversation:
    collector = ReportCollector(Published(Fleet()), ttl_s=10, clock=SystemClock())
    return Conversation(1, FIRST, collector, Published[Crossing | None](None))


async def test_each_directive_says_all_whether_it_is_new_or_renewed() -> None:
    """What stays the same is made once, and what is sent is never what was sent before."""
    renewed = replace(ORDER, explanation="still at rest", answers_ms=3_000)
    raised = replace(ORDER, sequence=4, lag_level=Level.SOFT, answers_ms=5_000)
    sent: list[bytes] = []

    async def write(response: pb.ControlResponse) -> None:
        sent.append(response.SerializeToString())

    send = conversation().sender(write)
    for order in (ORDER, renewed, raised, raised):
        await send(order)
    said = [directive_from_pb(pb.ControlResponse.FromString(one).directive) for one in sent]
    assert said == [ORDER, renewed, raised, raised]


async def test_a_process_that_reports_nothing_for_a_ttl_is_given_up() -> None:
    """It is stopped, and keeps its sockets."""
    with pytest.raises(UnavailableError, match="writer-1 has reported nothing"):
        await conversation().watch(TTL_S)


async def test_a_process_that_takes_nothing_for_a_ttl_is_given_up() -> None:
    """It goes on reporting, and what it is told stays on the way."""
    stuck, never = conversation(), asyncio.Event()
    # However long this process stands still, what is heard is never late.
    stuck._heard_at_s = float("inf")

    async def write(_: pb.ControlResponse) -> None:
        await never.wait()

    async def send() -> None:
        await stuck.sender(write)(ORDER)

    sending = asyncio.create_task(send())
    try:
        with pytest.raises(UnavailableError, match="writer-1 takes no directives"):
            await stuck.watch(TTL_S)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_process_that_took_all_it_was_told_is_not_given_up_for_that() -> None:
    """However long ago the last of it was: it is silent itself before anything else is wrong."""
    taken = conversation()

    async def write(_: pb.ControlResponse) -> None: ...

    await taken.sender(write)(ORDER)
    taken._heard_at_s = time.monotonic() + TTL_S
    with pytest.raises(UnavailableError, match="writer-1 has reported nothing"):
        await taken.watch(TTL_S)
