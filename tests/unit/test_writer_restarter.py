"""The restarter ends the process once, at its turn, and not more often than it may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from libs.degradation.obedience import Applied
from services.writer.restarting.need import MOST_RESTARTS, SETTLING_S, Sight
from services.writer.restarting.past import PastRestarts
from services.writer.restarting.restarter import Around, Restarter
from tests.support.clock import ManualClock
from tests.support.polling import eventually


class World:
    """A process whose memory stays short with nothing buffered."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.sight = Sight(starved=True, drained=True)
        self.demanded = Applied()
        self.gone_on = 0
        self.restarted = asyncio.Event()
        self.past = PastRestarts("writer-1", folder)
        self.executor = ThreadPoolExecutor(1)
        self.looks = 0
        self.given_back = 0
        self.restarter = Restarter(
            Around(
                self._look, lambda: self.demanded, self._go_on, self.restarted.set, self._give_back
            ),
            self.past,
            self.executor,
            self.clock,
            jitter_s=0,
        )

    def _look(self) -> Sight:
        self.looks += 1
        return self.sight

    def _go_on(self) -> None:
        self.gone_on += 1

    def _give_back(self) -> None:
        self.given_back += 1

    async def looked(self, times: int = 2) -> None:
        """Wait until it has looked so many times from now on."""
        enough = self.looks + times
        await eventually(lambda: self.looks >= enough)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Run a restarter that has seen that memory is short."""
    made = World(tmp_path)
    running = asyncio.create_task(made.restarter.run())
    await made.looked()
    yield made
    await made.restarter.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await running
    made.executor.shutdown()


def stuck() -> float | None:
    return REGISTRY.get_sample_value("k2_writer_memory_stuck")


async def test_it_restarts_by_itself_where_nobody_gives_turns(world: World) -> None:
    """Counted before it ends, so that the next process knows."""
    assert not world.restarted.is_set()
    world.clock.advance(SETTLING_S)
    await eventually(world.restarted.is_set)
    assert world.past.times_us() == (world.clock.now_us(),)
    assert not world.gone_on


async def test_what_is_freed_while_it_settles_goes_back_to_the_system(world: World) -> None:
    """Freed pages stay with the process until somebody gives them back: no reason to restart."""
    await world.looked()
    already = world.given_back
    await eventually(lambda: world.given_back > already)
    assert not world.restarted.is_set()
    world.clock.advance(SETTLING_S)
    await eventually(world.restarted.is_set)


async def test_it_waits_for_its_turn_under_a_governor(world: World) -> None:
    """It says that it wants one, and acts when it is told."""
    world.demanded = Applied(authority="governor")
    world.clock.advance(SETTLING_S)
    await eventually(lambda: world.restarter.wanted)
    await world.looked()
    assert not world.restarted.is_set()
    world.demanded = Applied(authority="governor", restart=True)
    await eventually(world.restarted.is_set)


async def test_it_gives_up_after_three(world: World) -> None:
    """The alarm is up, the pause ends, and nothing is asked for until memory recovers."""
    for _ in range(MOST_RESTARTS):
        world.past.add(world.clock.now_us())
    world.clock.advance(SETTLING_S)
    await eventually(lambda: world.gone_on)
    assert stuck() == 1
    world.clock.advance(3_600)
    await world.looked()
    assert (world.gone_on, world.restarter.wanted, world.restarted.is_set()) == (1, False, False)
    world.sight = Sight(starved=False, drained=True)
    await world.looked()
    assert stuck() == 0


async def test_it_goes_on_where_a_restart_cannot_be_counted(world: World, tmp_path: Path) -> None:
    """One that nobody counts might never end."""
    (tmp_path / "writer-1.restarts-new").mkdir()
    world.clock.advance(SETTLING_S)
    await eventually(lambda: world.gone_on)
    assert not world.restarted.is_set()
