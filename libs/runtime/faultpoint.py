"""Named points where a fault test holds a process to kill it from outside.

A point does nothing unless K2_FAULT_DIR is set and `<dir>/<point>.arm` exists. Then it writes
`<dir>/<point>.<pid>.reached` and holds its task or thread until the arm file is gone.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

POLL_S = 0.005


def _directory() -> Path | None:
    named = os.environ.get("K2_FAULT_DIR")
    return Path(named) if named else None


DIRECTORY = _directory()


async def reach(point: str) -> None:
    """Hold this task here while the point is armed."""
    if DIRECTORY is None or not _report(DIRECTORY, point):
        return
    while _armed(DIRECTORY, point):
        await asyncio.sleep(POLL_S)


def reach_sync(point: str) -> None:
    """Hold this thread here while the point is armed."""
    if DIRECTORY is None or not _report(DIRECTORY, point):
        return
    while _armed(DIRECTORY, point):
        time.sleep(POLL_S)


def _armed(directory: Path, point: str) -> bool:
    return (directory / f"{point}.arm").exists()


def _report(directory: Path, point: str) -> bool:
    """Say that the point was reached; false where it is not armed."""
    if not _armed(directory, point):
        return False
    (directory / f"{point}.{os.getpid()}.reached").touch()
    return True
