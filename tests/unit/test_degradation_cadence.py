"""How often a process reports: at once what may change a level, seldom where nothing is near."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.degradation.cadence import answers, due, every_s, pressed
from libs.degradation.level import Level, Rules, Thresholds
from libs.degradation.memory import MemoryUse
from libs.degradation.messages import MOST_EVERY_S, STEADY_S, Directive, OwnReport, Report
from libs.degradation.obedience import Obedience, hear, watch
from services.governor.observing.fleet import Member

PLACES = {("t", 0): 5, ("t", 1): 7}
# Two writers: each has its half of SOFT's 1,000, and may leave SOFT below a half of that.
RULES = Rules(lag=Thresholds(1_000, 5_000, 10_000, 50_000))
CALM = OwnReport("k2-writer", PLACES, lag=249)
REPORT = Report(
    "writer", "writer-1", 1, 10, 1, Level.NORMAL, Level.NORMAL, Level.NORMAL, 1, CALM, every_s=2.5
)


def directed(lag_level: Level = Level.NORMAL) -> Obedience:
    order = Directive(1, 1, 10.0, lag_level, Level.NORMAL, writers=2, rules=RULES)
    return hear(Obedience(), order, 100.0)[0]


def test_a_calm_process_reports_a_little_less_often_than_it_is_directed() -> None:
    """Which is five times in each TTL: with each directive it reports anyway."""
    assert every_s(directed(), CALM, 101.0) == 2.5


def test_no_process_is_silent_for_longer_than_a_governor_waits() -> None:
    """However long a directive holds: after that the group's committed offsets stand for it."""
    order = Directive(1, 1, 60.0, Level.NORMAL, Level.NORMAL, writers=2, rules=RULES)
    assert every_s(hear(Obedience(), order, 100.0)[0], CALM, 101.0) == MOST_EVERY_S
    waited_for = Member(1, replace(REPORT, every_s=MOST_EVERY_S), 0.0, 0)
    assert waited_for.patience_s == MOST_EVERY_S - STEADY_S


@pytest.mark.parametrize(
    "own",
    [
        replace(CALM, lag=250),
        replace(CALM, lag=None),
        replace(CALM, held=frozenset({("t", 0)})),
        replace(CALM, commit_failures=1),
        replace(CALM, restart_wanted=True),
    ],
)
def test_a_process_with_anything_to_say_reports_each_second(own: OwnReport) -> None:
    """Lag near what a level goes by, or not known; records it cannot read, commits that fail."""
    assert every_s(directed(), own, 101.0) == STEADY_S


def test_a_process_at_a_level_or_by_itself_reports_each_second() -> None:
    """The governor must see at once that it recovers; and one that is new is soon full."""
    assert every_s(directed(Level.SOFT), CALM, 101.0) == STEADY_S
    assert every_s(Obedience(), CALM, 101.0) == STEADY_S
    assert every_s(directed(), CALM, 110.0) == STEADY_S
    full = watch(directed(), MemoryUse(8, 10), CALM, 101.0)
    assert every_s(full, CALM, 101.0) == STEADY_S


def test_a_process_that_reads_no_topic_is_calm_without_lag() -> None:
    """A query service has no positions either."""
    assert every_s(directed(), OwnReport(), 101.0) == 2.5


def test_no_report_waits_longer_than_it_said() -> None:
    """Nor does one come earlier that says nothing new."""
    assert not due(REPORT, REPORT, 2.4, pressed=False)
    assert due(REPORT, REPORT, 2.5, pressed=False)
    assert due(None, REPORT, 0.0, pressed=False)
    assert due(REPORT, replace(REPORT, every_s=STEADY_S), 1.0, pressed=False)


def test_what_may_change_a_level_is_reported_at_once() -> None:
    """Its lag, its memory, and partitions that came or went."""
    assert pressed(directed(), replace(CALM, lag=500), 101.0)
    assert not pressed(directed(), replace(CALM, lag=499), 101.0)
    assert due(REPORT, REPORT, 0.1, pressed=True)
    assert due(REPORT, replace(REPORT, memory_level=Level.SOFT), 0.1, pressed=False)
    moved = replace(REPORT, own=replace(CALM, positions={("t", 0): 5}))
    assert due(REPORT, moved, 0.1, pressed=False)


def test_only_a_calm_process_answers_a_directive_with_its_report() -> None:
    """Any other has reported within the second; and two directives at once are answered once."""
    assert answers(REPORT, 2.0)
    assert not answers(REPORT, 0.1)
    assert not answers(replace(REPORT, every_s=STEADY_S), 2.0)
    assert not answers(None, 2.0)
