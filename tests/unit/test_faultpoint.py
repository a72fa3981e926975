"""Fault points: nothing unless armed, then a report and a halt until let go."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from libs.runtime import faultpoint
from libs.runtime.faultpoint import reach, reach_sync
from tests.support.polling import eventually, eventually_sync
from tests.support.processes import arm, disarm


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(faultpoint, "DIRECTORY", tmp_path)
    return tmp_path


async def test_point_without_a_directory_is_nothing() -> None:
    """As in production: no variable, no file is looked at."""
    assert faultpoint.DIRECTORY is None
    await reach("writer.after_fetch")
    reach_sync("writer.after_fetch")


async def test_point_that_is_not_armed_is_passed(faults: Path) -> None:
    """Others may be armed."""
    arm(faults, "writer.after_commit")
    await reach("writer.after_fetch")

    reported = await asyncio.to_thread(lambda: list(faults.glob("*.reached")))
    assert not reported


async def test_armed_point_holds_the_task(faults: Path) -> None:
    """It reports, and goes on once disarmed; the event loop stays free."""
    arm(faults, "writer.after_fetch")
    held = asyncio.create_task(reach("writer.after_fetch"))
    mark = faults / f"writer.after_fetch.{os.getpid()}.reached"
    await eventually(mark.exists)
    assert not held.done()

    disarm(faults, "writer.after_fetch")

    await asyncio.wait_for(held, 60)


def test_armed_point_holds_the_thread(faults: Path) -> None:
    """For points inside an executor."""
    arm(faults, "writer.mid_file")
    thread = threading.Thread(target=reach_sync, args=("writer.mid_file",))
    thread.start()
    eventually_sync((faults / f"writer.mid_file.{os.getpid()}.reached").exists)
    assert thread.is_alive()

    disarm(faults, "writer.mid_file")

    thread.join(5)
    assert not thread.is_alive()
