"""Fixtures live in tests/support."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine that is busy is no failure, nor are examples that are many, large or thrown away.
# A change is judged by the same examples each time and everywhere; `--hypothesis-profile=explore`
# looks for new ones.
OF_TIME_OR_CHANCE = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
)
settings.register_profile(
    "k2", deadline=None, derandomize=True, suppress_health_check=OF_TIME_OR_CHANCE
)
settings.register_profile("explore", parent=settings.get_profile("k2"), derandomize=False)
settings.load_profile("k2")

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
