"""What `k2 up` does with a process that ended in order to be started anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

from libs.runtime.doors import Door, find
from tests.support.polling import eventually
from tests.support.processes import arm, disarm
from tools.cli.parts.children import ChildProcess, Command, how_it_ended


async def serves(_: Door) -> bool:
    return True


def pid_of(run_dir: Path) -> int | None:
    door = find(run_dir).get("toy-1")
    return door.pid if door else None


def test_a_killed_process_is_said_to_be_killed(tmp_path: Path) -> None:
    """The last event in its log had nothing to do with it; of one that ended itself it has."""
    log = tmp_path / "toy.log"
    log.write_text('{"event": "level_applied"}\n')
    assert how_it_ended(-9, log) == "was ended by SIGKILL"
    log.write_text('{"event": "stopped", "error": "the catalog is damaged"}\n')
    assert how_it_ended(70, log) == "ended with code 70: the catalog is damaged"


async def test_child_that_asks_for_it_is_started_anew(tmp_path: Path) -> None:
    """It is no failure: nobody has to restart the part, and it serves again."""
    faults = tmp_path / "faults"
    variables = {
        "K2_SERVICE_NAME": "toy-1",
        "K2_RUN_DIR": str(tmp_path),
        "K2_FAULT_DIR": str(faults),
        "K2_TEST_TROUBLE": "wants_restart",
    }
    arm(faults, "toy.wants_restart")
    command = Command("tests.support.toy", variables=variables)
    child = ChildProcess(
        "toy-1", lambda: command, run_dir=tmp_path, log=tmp_path / "toy.log", serving=serves
    )
    await child.start()
    running = asyncio.create_task(child.run())
    try:
        first = pid_of(tmp_path)
        disarm(faults, "toy.wants_restart")
        await eventually(lambda: pid_of(tmp_path) not in (first, None), 30, what="another toy")
        assert not running.done()
        await child.stop()
        async with asyncio.timeout(60):
            await running
    finally:
        await child.close()
