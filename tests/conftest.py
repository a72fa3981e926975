"""Fixtures live in tests/support."""

from __future__ import annotations

pytest_plugins = [
    "tests.support.cli",
    "tests.support.grpcurl",
    "tests.support.kafka",
    "tests.support.writer",
    "tests.support.serving",
    "tests.support.simulator",
]
