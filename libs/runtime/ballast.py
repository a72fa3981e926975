"""Memory that a test has a process hold, so that what is measured of it is truly used.

Nothing happens unless K2_FAULT_DIR is set. Then `<dir>/<process>.ballast` says how many MiB are
held: `300`, or `300 keep` for an allocator that gives nothing back: what was taken then stays until
the process ends. With `by 4711` behind it only the process of that id holds it, none that comes
after it. It is read four times a second; without the file all is given back.
"""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

from libs.runtime.faultpoint import DIRECTORY

MIB = 1024 * 1024
LOOK_EVERY_S = 0.25
ORDER = re.compile(r"(\d+)( keep)?(?: by (\d+))?\s*")


class Ballast:
    """Blocks of one MiB each, every page of them written."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._kept = 0

    @property
    def held_mib(self) -> int:
        return len(self._blocks)

    def follow(self, order: str) -> None:
        """Hold as much as is ordered; what is no order changes nothing, for it is half written."""
        wanted = ORDER.fullmatch(order or "0")
        if wanted is None:
            return
        is_meant = wanted[3] is None or int(wanted[3]) == os.getpid()
        target = max(int(wanted[1]) if is_meant else 0, self._kept)
        del self._blocks[target:]
        while len(self._blocks) < target:
            self._blocks.append(bytes(bytearray(b"\x5a") * MIB))
        if wanted[2] and is_meant:
            self._kept = target


def carry(process: str, directory: Path | None = DIRECTORY) -> None:
    """Follow the process's orders from now on, in a thread of its own; outside of tests nothing."""
    if directory is None:
        return
    order = directory / f"{process}.ballast"
    threading.Thread(target=_carry, args=(order,), name="ballast", daemon=True).start()


def _carry(order: Path) -> None:
    ballast = Ballast()
    while True:
        ballast.follow(read_order(order))
        time.sleep(LOOK_EVERY_S)


def read_order(order: Path) -> str:
    """Return what is ordered; nothing where the file is gone, be it a moment ago."""
    try:
        return order.read_text()
    except FileNotFoundError:
        return ""
