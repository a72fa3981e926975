"""Memory is what counts against the limit, wherever the limit stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.degradation.memory import MemoryUse, cgroup_memory, memory_now

# As kernels print them; version 1's "no limit" is the most pages that it can count.
V1_NO_LIMIT = "9223372036854771712"
V1_OWN = """\
9:name=systemd:/
8:pids:/docker/4f2a
7:cpu,cpuacct:/docker/4f2a
4:memory:/docker/4f2a
3:cpuset:/
0::/
"""
V1_STAT = """\
cache 421888
rss 100003840
shmem 0
inactive_anon 100003840
active_anon 0
inactive_file 1000
active_file 4096
hierarchical_memory_limit 199999488
total_cache 421888
total_rss 100003840
total_inactive_anon 100003840
total_inactive_file 397056
total_active_file 24832
"""
V2_STAT = """\
anon 100003840
file 421888
kernel 1310720
inactive_anon 100003840
active_anon 0
inactive_file 397056
active_file 24832
pgfault 24415
"""


def cgroup(folder: Path, *, limit: str, current: int = 0, inactive_file: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive_file}\nslab 7\n")


def own(tmp_path: Path, path: str) -> Path:
    file = tmp_path / "own"
    file.write_text(f"4:memory:/elsewhere\n0::{path}\n")
    return file


def test_droppable_page_cache_is_not_used_memory(tmp_path: Path) -> None:
    """Else a writer of large files would always look full."""
    cgroup(tmp_path / "a", limit="1000", current=900, inactive_file=300)
    assert cgroup_memory(tmp_path, own(tmp_path, "/a")) == MemoryUse(600, 1000)


def test_nearest_cgroup_with_a_limit_counts(tmp_path: Path) -> None:
    """A cgroup without a limit is bounded by its parent's."""
    cgroup(tmp_path / "a" / "b", limit="max", current=10)
    cgroup(tmp_path / "a", limit="500", current=100)
    assert cgroup_memory(tmp_path, own(tmp_path, "/a/b")) == MemoryUse(100, 500)


def old_cgroup(folder: Path, *, limit: str, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(V1_STAT)


def test_version_1_counts_where_the_kernel_counts_memory_there(tmp_path: Path) -> None:
    """Both are mounted, and version 2 knows of no memory."""
    (tmp_path / "unified").mkdir()
    old_cgroup(tmp_path / "memory/docker/4f2a", limit="199999488", used=100425728)
    own = tmp_path / "own"
    own.write_text(V1_OWN)
    assert cgroup_memory(tmp_path, own) == MemoryUse(100425728 - 397056, 199999488)


def test_version_1_within_a_container_is_found_at_its_root(tmp_path: Path) -> None:
    """The path is the host's, and what is mounted is the container's own folder."""
    old_cgroup(tmp_path / "memory", limit="199999488", used=100425728)
    own = tmp_path / "own"
    own.write_text(V1_OWN)
    assert cgroup_memory(tmp_path, own) == MemoryUse(100425728 - 397056, 199999488)


def test_version_1_without_a_limit_is_no_reading(tmp_path: Path) -> None:
    """It prints a number for it."""
    old_cgroup(tmp_path / "memory/docker/4f2a", limit=V1_NO_LIMIT, used=100425728)
    own = tmp_path / "own"
    own.write_text(V1_OWN)
    assert cgroup_memory(tmp_path, own) is None


@pytest.mark.parametrize("path", ["/", "/kubepods.slice/pod1.slice/cri-4f2a.scope"])
def test_version_2_as_a_kernel_prints_it(tmp_path: Path, path: str) -> None:
    """In a container its own folder is the root."""
    folder = tmp_path / path.removeprefix("/")
    cgroup(folder, limit="199999488", current=101736448)
    (folder / "memory.stat").write_text(V2_STAT)
    own = tmp_path / "own"
    own.write_text(f"0::{path}\n")
    assert cgroup_memory(tmp_path, own) == MemoryUse(101736448 - 397056, 199999488)


def test_no_cgroup_limit_is_no_cgroup_reading(tmp_path: Path) -> None:
    """Then the machine's memory is the limit."""
    cgroup(tmp_path, limit="max")
    assert cgroup_memory(tmp_path, own(tmp_path, "/")) is None
    assert cgroup_memory(tmp_path, tmp_path / "missing") is None


def test_configured_limit_is_what_resident_memory_is_held_against() -> None:
    """A process in a shared cgroup answers for itself."""
    now = memory_now(1 << 40)
    assert now.limit_bytes == 1 << 40
    assert 0 < now.share < 0.1
