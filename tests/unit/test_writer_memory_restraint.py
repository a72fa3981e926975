"""A level of memory counts as applied once the consumer goes by it."""

from __future__ import annotations

import asyncio

from libs.degradation.level import Level
from libs.degradation.policy import load_policy
from services.writer.intake.pauses import MemoryRestraint, Pauses
from tests.support.clock import ManualClock

P3 = ("market.crypto.trades.binance", 3)


class World:
    def __init__(self) -> None:
        self.level = Level.NORMAL
        self.pauses = Pauses()
        self.recovering = False
        self.clock = ManualClock()
        self.restraint = MemoryRestraint(
            load_policy("crypto"), lambda: self.level, lambda: self.recovering, self.clock
        )

    def look(self) -> None:
        """Do what the consumer does before each poll."""
        self.hold()
        self.restraint.obeyed()

    def hold(self) -> None:
        self.restraint.hold(self.pauses, frozenset({P3}))


async def test_a_level_is_taken_in_once_the_consumer_has_paused_for_it() -> None:
    """What it fetches after that goes by the level."""
    world = World()
    world.level = Level.AGGRESSIVE
    waiting = asyncio.create_task(world.restraint.taken_in())
    await asyncio.sleep(0)
    world.hold()
    await asyncio.sleep(0)
    assert not waiting.done()
    world.look()
    async with asyncio.timeout(60):
        await waiting
    assert world.pauses.held == {P3}


async def test_a_level_of_lag_has_nothing_for_the_consumer_to_take_in() -> None:
    """Nor has one of memory that it goes by already."""
    world = World()
    async with asyncio.timeout(60):
        await world.restraint.taken_in()
    assert not world.pauses.held


async def test_the_newest_level_is_the_one_waited_for() -> None:
    """One that was left meanwhile is not."""
    world = World()
    world.level = Level.AGGRESSIVE
    waiting = asyncio.create_task(world.restraint.taken_in())
    await asyncio.sleep(0)
    world.look()
    world.level = Level.CIRCUIT_BREAK
    await asyncio.sleep(0)
    assert not waiting.done()
    world.look()
    async with asyncio.timeout(60):
        await waiting
