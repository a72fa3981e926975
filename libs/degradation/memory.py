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
    """Use and limit of the nearest cgroup that has a limit; None where none has.

    Of version 1 where the kernel counts memory there, of version 2 otherwise.
    """
    try:
        text = own.read_text()
        return _nearest(V1, cgroups, text) or _nearest(V2, cgroups, text)
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class CgroupVersion:
    """What a version of cgroups calls things; `folder` is where memory is counted."""

    folder: str
    controller: str
    limit: str
    used: str
    reclaimable: str


V1 = CgroupVersion(
    "memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
)
V2 = CgroupVersion("", "", "memory.max", "memory.current", "inactive_file")
# Version 1 says "no limit" by the most pages that it can count.
NO_LIMIT_BYTES = 1 << 62


def _nearest(version: CgroupVersion, cgroups: Path, own: str) -> MemoryUse | None:
    path = own_path(version, own)
    if path is None:
        return None
    folders = (cgroups / version.folder / one for one in (path, *path.parents))
    return next(filter(None, (_limited(version, folder) for folder in folders)), None)


def own_path(version: CgroupVersion, own: str) -> Path | None:
    """Read the path from lines of hierarchy:controllers:path; version 2 names no controllers."""
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if version.controller in controllers.split(","):
            return Path(path.removeprefix("/"))
    return None


def _limited(version: CgroupVersion, folder: Path) -> MemoryUse | None:
    limit = folder / version.limit
    if not limit.exists() or not (text := limit.read_text().strip()).isdigit():
        return None
    if not 0 < int(text) < NO_LIMIT_BYTES:
        return None
    used = int((folder / version.used).read_text())
    reclaimable = _counted(version.reclaimable, (folder / "memory.stat").read_text())
    return MemoryUse(max(used - reclaimable, 0), int(text))


def _counted(name: str, stat: str) -> int:
    lines = (line.split() for line in stat.splitlines())
    return next((int(value) for key, value in lines if key == name), 0)


def _resident_bytes() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


def _machine_bytes() -> int:
    return int(psutil.virtual_memory().total)
