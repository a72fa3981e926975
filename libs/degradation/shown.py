"""What a process shows of its levels and memory: metrics and log."""

from __future__ import annotations

import structlog
from prometheus_client import Gauge

from libs.degradation.memory import MemoryUse
from libs.degradation.obedience import Applied

log = structlog.get_logger()

LEVEL = Gauge("k2_level", "Level this process acts on, 0 NORMAL to 4 CIRCUIT_BREAK", ["process"])
CAUSE_LEVEL = Gauge(
    "k2_cause_level", "Level this process acts on, by what causes it", ["process", "cause"]
)
MEMORY_USED = Gauge("k2_memory_used_bytes", "Memory that counts against the limit", ["process"])
MEMORY_LIMIT = Gauge("k2_memory_limit_bytes", "Memory this process may use", ["process"])
DIRECTED = Gauge(
    "k2_directed",
    "1 while a governor's directive holds, 0 while the process goes by itself",
    ["process"],
)


def show_levels(process: str, now: Applied) -> None:
    LEVEL.labels(process).set(now.level)
    CAUSE_LEVEL.labels(process, "LAG").set(now.lag_level)
    CAUSE_LEVEL.labels(process, "MEMORY").set(now.memory_level)


def show_memory(process: str, memory: MemoryUse) -> None:
    MEMORY_USED.labels(process).set(memory.used_bytes)
    MEMORY_LIMIT.labels(process).set(memory.limit_bytes)


def tell_of_change(now: Applied) -> None:
    # `level` is the log's own word.
    log.info(
        "level_applied",
        applied_level=now.level.name,
        lag_level=now.lag_level.name,
        memory_level=now.memory_level.name,
        causes=sorted(map(str, now.causes)),
        authority=now.authority,
        because=now.explanation,
    )
