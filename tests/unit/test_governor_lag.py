"""Lag is measured at one moment: what was decoded then, and where the log ended then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.degradation.level import Level
from libs.degradation.messages import OwnReport, Report
from services.governor.observing import fleet as fleets
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import (
    HOLD_REMEMBERED_S,
    GroupLag,
    LogBounds,
    Look,
    Looks,
    PartitionLag,
    Reported,
    group_lag,
    with_holds,
)

GROUP = "k2-writer"
FIRST = ("t", 0)


def looks(*ends: tuple[float, int], begin: int = 0) -> Looks:
    """One partition's ends, by time."""
    seen = Looks(())
    for at_s, end in ends:
        seen = seen.and_then(Look(at_s, {FIRST: LogBounds(begin, end)}), keep_s=2.5)
    return seen


def said(process: str, at_s: float, positions: dict[tuple[str, int], int]) -> Report:
    return Report(
        "writer",
        process,
        1,
        1_000,
        1,
        Level.NORMAL,
        Level.NORMAL,
        Level.NORMAL,
        0,
        OwnReport(GROUP, positions),
    )


def fleet_of(*reports: tuple[float, Report]) -> Fleet:
    fleet = Fleet()
    for stream, (at_s, report) in enumerate(reports):
        fleet = fleets.report(fleet, stream, report, at_s, 0)
    return fleet


def test_writer_that_keeps_up_has_no_lag_however_fast_the_log_grows() -> None:
    """300,000 records a second, a report 0.9 s old, and the commit of a second before that."""
    seen = looks((10.0, 3_000_000), (10.4, 3_120_000), (10.8, 3_240_000))
    reported = {FIRST: Reported(3_000_000 - 2_000, at_s=10.0)}
    lag = group_lag(GROUP, seen, {FIRST: 2_700_000}, reported)
    assert (lag.lag, lag.log_end) == (2_000, 3_240_000)


def test_end_between_two_looks_is_in_proportion() -> None:
    """And outside of them the nearest one's; the newest is the truth of now."""
    seen = looks((10.0, 1_000), (11.0, 2_000))
    assert [seen.end_at(FIRST, at_s) for at_s in (10.25, 11.0, 12.0)] == [1_250, 2_000, 2_000]


def test_end_is_the_newest_one_where_a_look_between_did_not_show_the_topic() -> None:
    """A broker that has just begun knows no topic for a moment."""
    seen = looks((10.0, 1_000)).and_then(Look(10.3, {}), keep_s=2.5)
    again = seen.and_then(Look(10.6, {FIRST: LogBounds(0, 1_600)}), keep_s=2.5)
    assert [again.end_at(FIRST, at_s) for at_s in (10.1, 10.4)] == [1_600, 1_600]


def test_looks_older_than_any_report_that_counts_are_forgotten() -> None:
    """Two and a half seconds, and one to spare."""
    seen = looks(*((0.5 * n, n) for n in range(100)))
    assert len(seen.looks) == 8


def test_dead_writer_shows_by_what_its_group_has_committed() -> None:
    """Against the end as it is now: nobody has read on since."""
    lag = group_lag(GROUP, looks((10.0, 1_000), (10.4, 5_000)), {FIRST: 900}, {})
    assert lag.lag == 4_100


def test_group_without_a_position_starts_at_the_logs_start() -> None:
    """What retention has taken is not lag, it is loss."""
    seen = looks((10.0, 1_000), begin=400)
    assert group_lag(GROUP, seen, {}, {}).lag == 600
    assert group_lag(GROUP, seen, {FIRST: 5}, {}).lag == 600
    assert group_lag(GROUP, seen, {}, {FIRST: Reported(5, 10.0)}).lag == 600


def test_report_of_a_process_that_says_no_more_does_not_count() -> None:
    """A stopped writer keeps its stream, and its position would be held against an old end."""
    fleet = fleet_of((10.0, said("writer-1", 10.0, {FIRST: 7})))
    assert fleet.positions(GROUP, since_s=10.0) == {FIRST: Reported(7, 10.0)}
    assert not fleet.positions(GROUP, since_s=10.1)
    closed = fleets.close(fleet, 0, "writer-1", 10.0)
    assert not closed.positions(GROUP, since_s=0)
    assert not fleet.positions("another", since_s=0)


def test_report_of_a_calm_process_counts_until_its_next_one_is_late() -> None:
    """It said how often it reports; nobody is waited for without an end."""
    for every_s, counts_until_s in ((1.0, 10.0), (2.5, 11.5), (600.0, 14.0)):
        report = replace(said("writer-1", 10.0, {FIRST: 7}), every_s=every_s)
        fleet = fleet_of((10.0, report))
        assert fleet.positions(GROUP, since_s=counts_until_s)
        assert not fleet.positions(GROUP, since_s=counts_until_s + 0.1)


def test_report_that_came_late_counts_from_when_it_was_said() -> None:
    """Clocks differ; what came quickest tells by how much, and they drift a little."""
    fleet = Fleet()
    for said_at_ms, came_s in ((5_000, 105.02), (6_000, 106.5), (7_000, 107.01), (8_000, 109.0)):
        report = replace(said("writer-1", 0, {FIRST: said_at_ms}), said_at_ms=said_at_ms)
        fleet = fleets.report(fleet, 1, report, came_s, 0)
    late = fleet.members["writer-1"]
    assert late.said_at_s == pytest.approx(108.01, abs=0.003)
    assert fleet.positions(GROUP, since_s=108)[FIRST].at_s == late.said_at_s
    assert not fleet.positions(GROUP, since_s=108.1)
    again = fleets.report(fleet, 2, late.report, 120.0, 0)
    assert again.members["writer-1"].said_at_s == 120.0


def test_partition_that_moves_counts_from_its_new_owner() -> None:
    """Though the one before had decoded further, for the new one reads from the table's seam."""
    before = (10.0, said("writer-1", 10.0, {FIRST: 900}))
    after = (10.5, said("writer-2", 10.5, {FIRST: 400}))
    for reports in ((before, after), (after, before)):
        positions = fleet_of(*reports).positions(GROUP, since_s=0)
        assert positions[FIRST] == Reported(400, 10.5)


def group(*partitions: PartitionLag) -> GroupLag:
    return GroupLag(GROUP, partitions, known=True)


HELD = PartitionLag("t", 0, 6_000_000, 100, held=True)
FINE = PartitionLag("t", 1, 1_000, 990)


def test_held_lag_is_lag_and_presses_nobody() -> None:
    """It is told apart, and is no hot partition either."""
    both = group(HELD, FINE)
    assert (both.lag, both.held_lag, both.pressing) == (6_000_010 - 100, 5_999_900, 10)
    assert both.hot(0.8) is None


def test_partition_stays_held_until_it_moves_on() -> None:
    """Its new owner meets the same records; until then its lag must not shed all others."""
    _, holds = with_holds(group(HELD, FINE), {}, 10.0)
    moved = group(replace(HELD, held=False), FINE)
    still, kept = with_holds(moved, holds, 12.0)
    assert still.pressing == 10
    gone, none = with_holds(group(replace(HELD, held=False, decoded_offset=101), FINE), kept, 13.0)
    assert gone.pressing == gone.lag
    assert not none


def test_hold_that_nobody_speaks_of_is_forgotten() -> None:
    """Its writer is gone: then the lag is that of a dead writer."""
    _, holds = with_holds(group(HELD), {}, 10.0)
    later = group(replace(HELD, held=False))
    assert with_holds(later, holds, 10.0 + HOLD_REMEMBERED_S)[0].pressing == 0
    assert with_holds(later, holds, 10.1 + HOLD_REMEMBERED_S)[0].pressing == later.lag
