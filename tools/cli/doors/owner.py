"""The `k2 up` that keeps the parts running, found by its address file or by its parts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from libs.runtime.doors import Door, find

OWNER = "k2-up"


def owner_of(run_dir: Path) -> psutil.Process | None:
    """Return the process of `k2 up`; its parts know it where its own address file does not."""
    doors = find(run_dir)
    if OWNER in doors:
        return psutil.Process(doors[OWNER].pid)
    return next(filter(is_up, parents_of(doors.values())), None)


def parents_of(doors: Iterable[Door]) -> Iterable[psutil.Process]:
    for door in doors:
        with suppress(psutil.Error):
            parent = psutil.Process(door.pid).parent()
            if parent is not None:
                yield parent


def is_up(process: psutil.Process) -> bool:
    """Say whether a process is a `k2 up`, by its command line."""
    with suppress(psutil.Error):
        words = process.cmdline()
        return "up" in words and any(w == "tools.cli" or Path(w).name == "k2" for w in words)
    return False
