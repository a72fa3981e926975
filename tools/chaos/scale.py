"""How a run is scaled so that a laptop shows all five levels: each setting, and what it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from libs.degradation.level import LAG_THRESHOLDS, MEMORY_THRESHOLDS, Level, Thresholds

POLICY = Path(__file__).with_name("priorities.toml")
MIB = 2**20
QUICK_COOLDOWN_S = 2.0
QUICK_LAG = 0.4


@dataclass(frozen=True, slots=True)
class Scale:
    """Thresholds and cooldown of a run; at 1 and 30 s they are those of production."""

    lag: float = 0.1
    cooldown_s: float = 3.0
    backfill_records_per_s: float = 200_000.0
    flush_after_s: float = 2.0
    writer_limit_mib: int | None = None
    # The limit is that of a cgroup, which the kernel itself holds the writer to.
    cgroup: bool = False
    # Larger buffers than in peace: what load alone makes of memory is to be seen.
    writer_buffer_mib: int | None = None

    def quicker(self) -> Scale:
        """Return what shows the same in half the time."""
        return replace(self, lag=self.lag * QUICK_LAG, cooldown_s=QUICK_COOLDOWN_S)

    @property
    def lag_thresholds(self) -> Thresholds:
        """Records behind, from which each level holds."""
        return LAG_THRESHOLDS.scaled(self.lag)

    def trigger(self, level: Level) -> float:
        """Records behind, from which a level holds."""
        return self.lag_thresholds.trigger(level)

    def variables(self) -> dict[str, Mapping[str, str]]:
        """Return the K2_* variables of each service."""
        limit = None if self.cgroup else self.writer_limit_mib
        buffer = self.writer_buffer_mib
        return {
            "governor": {
                "K2_GOVERNOR_LAG_SCALE": f"{self.lag:g}",
                "K2_GOVERNOR_COOLDOWN_S": f"{self.cooldown_s:g}",
            },
            "writer": {
                "K2_PRIORITY_POLICY": str(POLICY),
                "K2_WRITER_BACKFILL_RECORDS_PER_S": f"{self.backfill_records_per_s:g}",
                "K2_WRITER_RESTART_JITTER_S": "0",
                **({"K2_WRITER_FLUSH_AFTER_BYTES": f"{buffer}MiB"} if buffer else {}),
                **({"K2_MEMORY_LIMIT_BYTES": f"{limit}MiB"} if limit else {}),
            },
        }

    def sentences(self) -> list[str]:
        """Say what is scaled, a sentence each."""
        lag = ", ".join(f"{trigger:,.0f}" for trigger in self.lag_thresholds.in_order)
        memory = ", ".join(f"{share:.0%}" for share in MEMORY_THRESHOLDS.in_order)
        limit = f" of {self.writer_limit_mib} MiB" if self.writer_limit_mib else ""
        limit += ", a cgroup's limit: whoever goes beyond is killed" if self.cgroup else ""
        buffer = self.writer_buffer_mib
        larger = f", or at {buffer} MiB: load is to fill the memory" if buffer else ""
        return [
            f"levels by lag from {lag} records (x {self.lag:g})",
            f"levels by memory from {memory}{limit}",
            f"a commit each {self.flush_after_s:g} s (10 in production){larger}",
            f"{self.cooldown_s:g} s of rest before each step down (30 in production)",
            f"backfill at {self.backfill_records_per_s:,.0f} records a second at most (50,000)",
        ]
