"""Fixtures live in tests/support."""

from __future__ import annotations

import os

from hypothesis import settings

# A machine that is busy is no failure. In CI a change is judged by the same examples each time;
# everywhere else new ones are looked for.
settings.register_profile("k2", deadline=None)
settings.register_profile("ci", parent=settings.get_profile("k2"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "k2")

pytest_plugins = [
    "tests.support.cli",
    "tests.support.disks",
    "tests.support.grpcurl",
    "tests.support.kafka",
    "tests.support.writer",
    "tests.support.serving",
    "tests.support.simulator",
    "tests.support.directing",
    "tests.support.shedding",
]
