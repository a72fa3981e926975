"""Where a cgroup of our own is made, by what the kernel says of ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libs.degradation.memory import V1, V2
from libs.market.errors import UnavailableError
from tools.process.cgroups import memory_cgroups, where_to_make

# Beyond the highest id that Linux gives.
NO_PROCESS = 2**22 + 1


def own(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "own"
    file.write_text(text)
    return file


def test_version_1_below_this_process(tmp_path: Path) -> None:
    """Where it counts memory; in a container the path is the host's, and the root is ours."""
    mine = own(tmp_path, "4:memory:/a/b\n0::/\n")
    (tmp_path / "memory").mkdir()
    assert where_to_make(tmp_path, mine) == (V1, tmp_path / "memory")
    (tmp_path / "memory/a/b").mkdir(parents=True)
    assert where_to_make(tmp_path, mine) == (V1, tmp_path / "memory/a/b")


@pytest.mark.parametrize("path", ["/a/b", "/a"])
def test_version_2_beside_this_process(tmp_path: Path, path: str) -> None:
    """None but the root has both processes and cgroups; memory is asked for where it is not."""
    parent = (tmp_path / path.removeprefix("/")).parent
    parent.mkdir(exist_ok=True)
    (parent / "cgroup.subtree_control").write_text("cpu\n")
    assert where_to_make(tmp_path, own(tmp_path, f"0::{path}\n")) == (V2, parent)
    assert (parent / "cgroup.subtree_control").read_text() == "+memory"


def test_each_has_its_limit_and_all_are_gone_afterwards(tmp_path: Path) -> None:
    """Real ones are empty folders once their processes have ended."""
    (tmp_path / "memory").mkdir()
    mine = own(tmp_path, "4:memory:/\n")
    with memory_cgroups("k2", ["one", "two"], 123, cgroups=tmp_path, own=mine) as made:
        assert set(made) == {"one", "two"}
        for procs in made.values():
            limit = procs.with_name("memory.limit_in_bytes")
            assert limit.read_text() == "123"
            limit.unlink()
    assert list((tmp_path / "memory").iterdir()) == []


def test_those_that_a_killed_run_has_left_are_taken_or_removed(tmp_path: Path) -> None:
    """Taken where its process had the same id as this one; another's stay while it runs."""
    mine = own(tmp_path, "4:memory:/\n")
    memory = tmp_path / "memory"
    same, of_dead, of_living = (
        memory / f"k2-{pid}-one" for pid in (os.getpid(), NO_PROCESS, os.getppid())
    )
    for folder in (same, of_dead, of_living, memory / "k2-other-one"):
        folder.mkdir(parents=True)
    with memory_cgroups("k2", ["one"], 123, cgroups=tmp_path, own=mine) as made:
        assert made["one"].parent == same
        (same / "memory.limit_in_bytes").unlink()
    assert set(memory.iterdir()) == {of_living, memory / "k2-other-one"}


def test_a_machine_without_cgroups_says_so(tmp_path: Path) -> None:
    """It is no failure of K2's."""
    mine = own(tmp_path, "0::/\n")
    with (
        pytest.raises(UnavailableError, match="no memory cgroup can be made here"),
        memory_cgroups("k2", ["one"], 1, cgroups=tmp_path / "none", own=mine),
    ):
        pass
