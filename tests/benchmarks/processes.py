"""What the kernel says of a process."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from tests.benchmarks.figures import Reading


def reading(pid: int, done: int) -> Reading:
    """Read a process's CPU time, user and system of all its threads, at this moment."""
    times = psutil.Process(pid).cpu_times()
    return Reading(done, times.user + times.system, time.monotonic())


def peak_bytes(pid: int) -> int:
    """Return the most memory that was ever resident."""
    return high_water_bytes(Path(f"/proc/{pid}/status").read_text())


def high_water_bytes(status: str) -> int:
    """Find VmHWM in the text of /proc/<pid>/status."""
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
