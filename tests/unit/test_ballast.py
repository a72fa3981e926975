"""What a process is told to hold, it holds in pages of its own."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from libs.runtime.ballast import MIB, Ballast, read_order


def test_what_is_held_is_resident_and_given_back() -> None:
    """A page that nobody wrote would count for nothing."""
    ballast = Ballast()
    before = psutil.Process().memory_info().rss
    ballast.follow("128")
    assert psutil.Process().memory_info().rss - before > 64 * MIB
    ballast.follow("")
    assert ballast.held_mib == 0


@pytest.mark.parametrize("later", ["", "0", "1", "2 keep"])
def test_what_is_kept_stays(later: str) -> None:
    """As with an allocator that gives nothing back."""
    ballast = Ballast()
    ballast.follow("3 keep\n")
    ballast.follow("5")
    ballast.follow(later)
    assert ballast.held_mib == 3


def test_an_order_for_one_process_is_not_the_next_one_s() -> None:
    """What is never freed is gone with the process that held it."""
    ballast = Ballast()
    ballast.follow(f"3 keep by {os.getpid() + 1}\n")
    assert ballast.held_mib == 0
    ballast.follow(f"2 keep by {os.getpid()}\n")
    ballast.follow("1")
    assert ballast.held_mib == 2


def test_an_order_half_written_changes_nothing() -> None:
    """The next look reads the whole of it."""
    ballast = Ballast()
    ballast.follow("3")
    ballast.follow("30 kee")
    assert ballast.held_mib == 3


def test_an_order_that_is_gone_is_none(tmp_path: Path) -> None:
    """Also where it goes while the thread looks: that would hold for ever what it held."""
    order = tmp_path / "writer-1.ballast"
    order.write_text("3\n")
    assert read_order(order) == "3\n"
    order.unlink()
    assert read_order(order) == ""
