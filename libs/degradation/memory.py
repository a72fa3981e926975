"""What this process uses of the memory it may use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes in use, of those there may be."""

    used_bytes: int
    limit_bytes: int

    @property
    def share(self) -> float:
        return self.used_bytes / self.limit_bytes


def memory_now(limit_bytes: int | None = None) -> MemoryUse:
    """Measure now: RSS where a limit is given, else the cgroup's, else RSS against the machine's.

    The page cache that a cgroup can drop at once (inactive_file) does not count as used.
    """
    if limit_bytes:
        return MemoryUse(_resident_bytes(), limit_bytes)
    return cgroup_memory() or MemoryUse(_resident_bytes(), _machine_bytes())


def cgroup_memory(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> MemoryUse | None:
    """Use and limit of the nearest version 2 cgroup that has a limit; None where none has."""
    try:
        path = _own_path(own.read_text())
        return next(filter(None, (_limited(folder, cgroups) for folder in _upward(path))), None)
    except OSError:
        return None


def _own_path(text: str) -> Path:
    lines = (line for line in text.splitlines() if line.startswith("0::"))
    return Path(next(lines, "0::/").removeprefix("0::/"))


def _upward(path: Path) -> list[Path]:
    return [path, *path.parents]


def _limited(folder: Path, cgroups: Path) -> MemoryUse | None:
    limit = cgroups / folder / "memory.max"
    if not limit.exists() or not (text := limit.read_text().strip()).isdigit() or text == "0":
        return None
    used = int((cgroups / folder / "memory.current").read_text())
    reclaimable = _inactive_file_bytes((cgroups / folder / "memory.stat").read_text())
    return MemoryUse(max(used - reclaimable, 0), int(text))


def _inactive_file_bytes(stat: str) -> int:
    lines = (line for line in stat.splitlines() if line.startswith("inactive_file "))
    return int(next(lines, "inactive_file 0").split()[1])


def _resident_bytes() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


def _machine_bytes() -> int:
    return int(psutil.virtual_memory().total)
