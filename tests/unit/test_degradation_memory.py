"""Memory is what counts against the limit, wherever the limit stands."""

from __future__ import annotations

from pathlib import Path

from libs.degradation.memory import MemoryUse, cgroup_memory, memory_now


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
