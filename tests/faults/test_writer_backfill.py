"""Two backfillers, one of them killed or asleep with a piece in hand: no row is there twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from libs.degradation.level import Level
from tests.support.polling import eventually
from tests.support.processes import Process, arm, disarm
from tests.support.shedding import Shedding

POINTS = ["backfill.after_fetch", "backfill.after_upload", "backfill.before_build"]
MORE = [pytest.param(point, marks=pytest.mark.whole) for point in POINTS]


async def held(process: Process, point: str, folder: Path) -> None:
    """Wait until a process is held at a point, while the director goes on directing."""
    await asyncio.to_thread(process.reached, point, folder)


async def owing(shedding: Shedding, writer: Process) -> None:
    """Have a writer pass positions whose records wait."""
    await shedding.order(writer, lag=Level.AGGRESSIVE)
    await shedding.produce(4_000)
    await shedding.committed()
    assert shedding.owed()


@pytest.mark.whole
@pytest.mark.parametrize("point", [*POINTS, "backfill.before_send", "backfill.after_commit"])
async def test_a_writer_killed_in_a_backfill_writes_each_row_once(
    shedding: Shedding, point: str
) -> None:
    """SIGKILL at the point; after the restart what is still owed is written."""
    folder = shedding.writing.fault_dir
    with shedding.writer() as writer:
        await owing(shedding, writer)
        arm(folder, point)
        shedding.director.order()
        await held(writer, point, folder)
        writer.kill()
        shedding.prove_stored_or_owed()
        disarm(folder, point)
        writer.restart()
        await shedding.produce(1_000)
        await shedding.committed()
        await shedding.settled()
    assert shedding.stored() == shedding.produced


@pytest.mark.parametrize("point", [*MORE, "backfill.before_send"])
async def test_a_backfiller_that_slept_is_fenced(shedding: Shedding, point: str) -> None:
    """SIGSTOP with a piece in hand until another writer has written it: it wakes and is refused."""
    folder = shedding.writing.fault_dir
    with shedding.writer("writer-1") as sleeper:
        await owing(shedding, sleeper)
        arm(folder, point)
        shedding.director.order()
        await held(sleeper, point, folder)
        sleeper.pause()
        disarm(folder, point)
        with shedding.writer("writer-2"):
            await shedding.settled(60)
            assert shedding.stored() == shedding.produced
            sleeper.resume()
            await eventually(lambda: '"fenced"' in sleeper.log_text(), 20, what="fenced")
            await shedding.produce(1_000)
            await shedding.committed()
    assert shedding.stored() == shedding.produced
