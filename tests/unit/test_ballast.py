"""What a process is told to hold, it holds in pages of its own."""

from __future__ import annotations

import psutil
import pytest

from libs.runtime.ballast import MIB, Ballast


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


def test_an_order_half_written_changes_nothing() -> None:
    """The next look reads the whole of it."""
    ballast = Ballast()
    ballast.follow("3")
    ballast.follow("30 kee")
    assert ballast.held_mib == 3
