"""Where and with what the figures were measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("duckdb", "pyarrow", "pyiceberg", "aiokafka", "ptars", "grpcio", "uvloop")


def machine() -> dict[str, str]:
    """Describe this machine."""
    return {
        "processor": processor(Path("/proc/cpuinfo")),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Name the versions that the figures depend on most."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def processor(cpuinfo: Path) -> str:
    """Find the processor's name, by the kernel or by Python."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def load() -> str:
    """Say how busy the machine was over the last minute."""
    return f"{os.getloadavg()[0]:.2f}"


def scheduling() -> str:
    """Name a policy that puts these processes before others; empty for the usual one."""
    policy = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else 0
    return "" if policy == 0 else f"scheduling policy {policy}, not the usual 0"


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
