"""What one process is told, and from when on nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest

from libs.degradation.level import Level, Rules
from libs.degradation.messages import Directive, OwnReport, Report
from services.governor.board import Board, Recorded
from services.governor.deciding.govern import Standing, govern
from services.governor.directing.pusher import push
from services.governor.leading import leadership as leading
from services.governor.leading.following import NotLeadingError
from services.governor.leading.leadership import Leadership, Proof
from services.governor.observing import fleet as fleets
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import GroupLag
from tests.support.clock import ManualClock
from tests.support.polling import eventually

TTL_S = 10.0
NORMAL = Level.NORMAL
WRITER = Report(
    "writer", "writer-1", 100, 1_000, 100, NORMAL, NORMAL, NORMAL, 0, OwnReport("k2-writer")
)


class World:
    """A leader with one process attached; the test records what it likes."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clock.advance(100)
        fleet = fleets.report(Fleet(), 1, WRITER, 100.0, 0)
        sample = {"k2-writer": GroupLag("k2-writer", (), known=True)}
        self.standing = govern(Standing(Rules(), TTL_S, 40), sample, fleet, 100.0, 0)
        self.leads = leading.claimed(Leadership("governor-1", 4.0), 40, "host-1:7104")
        self.board = Board.blank(self.standing, self.leads)
        self.sent: list[Directive] = []
        self.pushing = asyncio.create_task(push(self.board, WRITER, self._send, self.clock))

    async def _send(self, directive: Directive) -> None:
        self.sent.append(directive)

    def order(self, memory: Level) -> None:
        """Order what the process's memory asks for now, as the controller does."""
        fleet = fleets.report(Fleet(), 1, replace(WRITER, memory_level=memory), 101.0, 0)
        sample = {"k2-writer": GroupLag("k2-writer", (), known=True)}
        self.standing = govern(self.standing, sample, fleet, 101.0, 0)

    async def record(self, proof: Proof, text: str = "") -> None:
        """Show what a transaction has proven, and let the pusher look at it."""
        self.board.recorded.publish(Recorded(self.standing.orders, proof, text))
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.pushing.cancel()
    with suppress(asyncio.CancelledError, NotLeadingError):
        await made.pushing


async def test_a_directive_answers_what_was_heard_when_the_proof_began(world: World) -> None:
    """And goes out again with each proof, newer each time."""
    for number, heard_ms in enumerate((90_000, 91_000), 1):
        await world.record(Proof(100.0, {"writer-1": heard_ms}), text=f"at {heard_ms}")
        await eventually(lambda so_many=number: len(world.sent) == so_many)  # type: ignore[misc]
    assert [(one.epoch, one.sequence, one.ttl_s) for one in world.sent] == [(40, 1, TTL_S)] * 2
    said = [(one.answers_ms, one.explanation) for one in world.sent]
    assert said == [(90_000, "at 90000"), (91_000, "at 91000")]


async def test_new_orders_go_out_as_they_are(world: World) -> None:
    """What was told before is told again only while the orders stand."""
    await world.record(Proof(100.0, {"writer-1": 90_000}))
    for number, level in enumerate((Level.SOFT, Level.AGGRESSIVE, NORMAL), 2):
        world.order(level)
        await world.record(Proof(100.0, {"writer-1": 90_000}))
        await eventually(lambda so_many=number: len(world.sent) == so_many)  # type: ignore[misc]
        assert (world.sent[-1].sequence, world.sent[-1].memory_level) == (number, level)


async def test_nothing_goes_out_without_a_proof_within_the_ttl(world: World) -> None:
    """It slept, or Kafka took nothing: another may lead by now."""
    await world.record(Proof(100.0 - TTL_S, {"writer-1": 90_000}))
    assert world.sent == []
    await world.record(Proof(100.0 - TTL_S + 0.1, {"writer-1": 90_000}))
    await eventually(lambda: len(world.sent) == 1)


async def test_a_process_that_no_proof_knows_is_told_nothing(world: World) -> None:
    """What it said came after the transaction began."""
    await world.record(Proof(100.0, {"writer-2": 90_000}))
    assert world.sent == []


async def test_who_leads_no_more_says_so_and_nothing_else(world: World) -> None:
    """The stream ends as soon as the leadership does."""
    await world.record(Proof(100.0, {"writer-1": 90_000}))
    await eventually(lambda: len(world.sent) == 1)
    world.board.leadership.publish(leading.deaf(world.leads))
    world.board.recorded.publish(None)
    with pytest.raises(NotLeadingError):
        async with asyncio.timeout(60):
            await world.pushing
    assert len(world.sent) == 1
