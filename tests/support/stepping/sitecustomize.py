"""The wall clock of a process, stepped from outside: seconds in the file of K2_TEST_CLOCK.

Python loads this at start where its folder is on PYTHONPATH. The monotonic clock goes on as it is,
as it does when an operator or NTP sets the time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

STEP = Path(os.environ["K2_TEST_CLOCK"])
_time_ns = time.time_ns


def stepped_ns() -> int:
    return _time_ns() + int(STEP.read_text() or 0) * 1_000_000_000


time.time_ns = stepped_ns
time.time = lambda: stepped_ns() / 1_000_000_000
