"""When only a process started anew gives its memory back, and how often it may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.market.errors import UnavailableError
from services.writer.restarting.need import (
    MOST_RESTARTS,
    SETTLING_S,
    WITHIN_S,
    Need,
    Sight,
    restarts_left,
)
from services.writer.restarting.past import PastRestarts

STUCK = Sight(starved=True, drained=True)
BUFFERED = Sight(starved=True, drained=False)
WELL = Sight(starved=False, drained=True)
NOW_US = 1_700_000_000_000_000


def after(*looks: tuple[float, Sight], jitter_s: float = 0.0) -> Need:
    need = Need()
    for now_s, sight in looks:
        need = need.after(sight, now_s, jitter_s=jitter_s)
    return need


def test_a_restart_is_wanted_once_memory_stays_short_with_nothing_buffered() -> None:
    """What was freed has some seconds to come back."""
    assert not after((0, STUCK), (SETTLING_S - 0.1, STUCK)).wanted
    assert after((0, STUCK), (SETTLING_S, STUCK)).wanted


def test_memory_that_buffers_hold_asks_for_no_restart() -> None:
    """Nor does it count towards one; a writer whose commits fail only waits."""
    assert not after((0, BUFFERED), (60, BUFFERED)).wanted
    assert not after((0, STUCK), (4, BUFFERED), (5, STUCK), (9, STUCK)).wanted
    assert after((0, STUCK), (4, BUFFERED), (5, STUCK), (10, STUCK)).wanted


def test_memory_that_recovers_asks_for_no_restart() -> None:
    """Also where one was due already."""
    assert not after((0, STUCK), (SETTLING_S, STUCK), (6, WELL)).wanted
    assert not after((0, STUCK), (4, WELL), (5, STUCK), (9, STUCK)).wanted


def test_what_is_due_stays_due_while_it_reads_on() -> None:
    """A turn that comes after the pause has ended is taken."""
    assert after((0, STUCK), (SETTLING_S, STUCK), (61, BUFFERED)).wanted


def test_a_restart_waits_for_its_turn_or_for_the_jitter() -> None:
    """Where somebody gives turns the jitter does not count, and nobody jumps the queue."""
    need = after((0, STUCK), (SETTLING_S, STUCK), jitter_s=10)
    assert not need.may_act(SETTLING_S + 9, turn=None)
    assert need.may_act(SETTLING_S + 10, turn=None)
    assert need.may_act(SETTLING_S, turn=True)
    assert not need.may_act(SETTLING_S + 99, turn=False)


def test_no_turn_restarts_who_does_not_need_it() -> None:
    """It may have recovered since it asked, or have given up."""
    assert not Need().may_act(0, turn=True)
    assert not Need(0, 5, given_up=True).may_act(9, turn=True)


def test_giving_up_ends_when_memory_recovers() -> None:
    """Until then no restart is asked for again, whatever the time."""
    given_up = Need(0, 5, given_up=True)
    assert given_up.after(STUCK, 9_999, jitter_s=0).given_up
    assert given_up.after(WELL, 10, jitter_s=0) == Need()


def test_restarts_are_counted_over_ten_minutes() -> None:
    """At most three; one that lies in the future, after a small step of the clock, counts too."""
    past = [NOW_US - int(seconds * 1e6) for seconds in (WITHIN_S, WITHIN_S - 1, 5, -60)]
    assert [restarts_left(past[:n], NOW_US) for n in range(5)] == [3, 3, 2, 1, 0]
    assert restarts_left(past * 3, NOW_US) == 0
    assert MOST_RESTARTS == 3


def test_a_clock_set_back_far_does_not_forbid_restarts_until_it_is_there_again() -> None:
    """Their times lie a day ahead: nobody knows when they were."""
    ahead = [NOW_US + int(86_400e6)] * 3
    assert restarts_left(ahead, NOW_US) == MOST_RESTARTS


def test_past_restarts_outlive_the_process(tmp_path: Path) -> None:
    """They are read from the disk, where a damaged line counts for none."""
    past = PastRestarts("writer-1", tmp_path / "run")
    assert past.times_us() == ()
    past.add(NOW_US)
    past.add(NOW_US + 1)
    assert PastRestarts("writer-1", tmp_path / "run").times_us() == (NOW_US, NOW_US + 1)
    assert PastRestarts("writer-2", tmp_path / "run").times_us() == ()
    (tmp_path / "run/writer-1.restarts").write_text(f"{NOW_US}\nhalf of\n")
    assert past.times_us() == (NOW_US,)


def test_restart_that_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    """It might be one of very many."""
    (tmp_path / "file").touch()
    past = PastRestarts("writer-1", tmp_path / "file")
    with pytest.raises(UnavailableError, match="cannot be counted"):
        past.add(NOW_US)
    with pytest.raises(UnavailableError, match="cannot be counted"):
        past.times_us()
