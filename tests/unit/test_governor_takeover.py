"""What a new leader finds in the record, and how long it believes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.degradation import machine
from libs.degradation.level import Level, Rules
from libs.degradation.machine import lag_policy
from libs.degradation.messages import OwnReport, Report
from services.governor.deciding.govern import Standing, govern
from services.governor.leading.leadership import Leader
from services.governor.leading.snapshots import restored, snapshot, taken_over
from services.governor.observing import fleet as fleets
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import GroupLag, PartitionLag
from services.governor.record.records import Placed, Record, RecordedGroup, decode, encode
from services.governor.record.views import record_to_pb

GROUP = "k2-writer"
LEADER = Leader("governor-1", "host-1:7104", 40)
RULES = Rules()
TTL_S = 10.0
BLANK = Standing(RULES, TTL_S, epoch=0)
US_PER_S = 1_000_000


def lag(*sizes: int, held: tuple[int, ...] = (), end: int = 0) -> dict[str, GroupLag]:
    parts = tuple(
        PartitionLag("t", n, size, 0, n in held, live=True) for n, size in enumerate(sizes)
    )
    return {GROUP: GroupLag(GROUP, parts, known=True, log_end=end)}


def writer(number: int, applied: Level, *partitions: int, failures: int = 0) -> Report:
    own = OwnReport(GROUP, {("t", p): 0 for p in partitions}, 0, failures)
    name, normal = f"writer-{number}", Level.NORMAL
    return Report("writer", name, 1, 10, 1, normal, applied, applied, 40, own)


def fleet_of(*reports: Report) -> Fleet:
    fleet = Fleet()
    for stream, report in enumerate(reports):
        fleet = fleets.report(fleet, stream, report, 0, 0)
    return fleet


def flapping(standing: Standing, until_s: float) -> Standing:
    """Up and down once a minute: each time down after the cooldown, and up again."""
    for now_s in range(int(until_s)):
        sample = lag(150_000 if now_s % 60 < 5 else 0)
        standing = govern(standing, sample, Fleet(), float(now_s), 0)
    return standing


def recorded(standing: Standing, fleet: Fleet, now_s: float) -> Record:
    """Write a record of it, and read that back."""
    said = decode(encode(snapshot("sample", standing, fleet, LEADER, now_s)))
    assert said is not None
    return said


def taken(record: Record, *, after_s: float, now_s: float = 5_000.0) -> Standing:
    """Take over so long after the record, on a clock that begins elsewhere."""
    before = restored([Placed(1, 70 * US_PER_S, record)])
    now_us = round((70 + after_s) * US_PER_S)
    return taken_over(BLANK, 41, before, now_s=now_s, now_us=now_us)


def test_reversals_are_taken_over_with_their_cooldown() -> None:
    """A level that flapped under one leader flaps no faster under the next."""
    state = flapping(BLANK, 310.0)
    policy = lag_policy(RULES)
    assert machine.cooldown_s(state.ladders[GROUP], policy, 310.0) == 60.0
    after = taken(recorded(state, Fleet(), 310.0), after_s=5.0)
    assert machine.cooldown_s(after.ladders[GROUP], policy, 5_000.0) == 60.0
    assert after.ladders[GROUP].below_since_s is None


def test_a_reversal_counts_no_longer_for_having_been_taken_over() -> None:
    """Ten minutes from when it was, whoever has led meanwhile."""
    record = recorded(flapping(BLANK, 310.0), Fleet(), 310.0)
    policy, old = lag_policy(RULES), taken(record, after_s=400.0)
    assert machine.reversals(old.ladders[GROUP], policy, 5_000.0) == 3
    gone = taken(record, after_s=601.0)
    assert machine.reversals(gone.ladders[GROUP], policy, 5_000.0) == 0


def test_a_fall_before_the_takeover_makes_the_rise_after_it_a_reversal() -> None:
    """Else every takeover would forgive one."""
    record = recorded(flapping(BLANK, 50.0), Fleet(), 50.0)
    after = taken(record, after_s=5.0)
    for now_s in (5_000.0, 5_000.5):
        after = govern(after, lag(150_000), Fleet(), now_s, 0)
    assert len(after.ladders[GROUP].reversals_s) == 1


@pytest.mark.parametrize(("after_s", "level"), [(40.0, Level.AGGRESSIVE), (40.1, Level.NORMAL)])
def test_a_recorded_level_counts_while_a_process_may_hold_it(after_s: float, level: Level) -> None:
    """A TTL, and the rest before its own first step down: 40 s. Then the lag says it better."""
    state = replace(BLANK, epoch=40)
    for now_s in (0.0, 0.5):
        state = govern(state, lag(600_000, 600_000), Fleet(), now_s, 0)
    after = taken(recorded(state, Fleet(), 1.0), after_s=after_s)
    after = govern(after, lag(0, 0), Fleet(), 5_000.0, 0)
    assert after.orders is not None
    assert after.orders.lag_level is level


def test_of_an_old_record_what_processes_still_apply_counts() -> None:
    """They went on by their own lag meanwhile, and one of them is still at GRACEFUL."""
    state = replace(BLANK, epoch=40)
    for now_s in (0.0, 0.5):
        state = govern(state, lag(600_000, 600_000), Fleet(), now_s, 0)
    after = taken(recorded(state, Fleet(), 1.0), after_s=3_600.0)
    fleet = fleet_of(writer(1, Level.GRACEFUL, 0), writer(2, Level.SOFT, 1))
    after = govern(after, lag(0, 0), fleet, 5_000.0, 0)
    assert after.orders is not None
    assert after.orders.lag_level is Level.GRACEFUL


def test_the_record_says_as_data_who_is_behind_and_by_what() -> None:
    """Not in the sentence alone: rates, hot and held partitions, failing sinks, all the rules."""
    fleet = fleet_of(writer(1, Level.NORMAL, 0), writer(2, Level.NORMAL, 1, failures=3))
    state, seconds = replace(BLANK, epoch=40), 30
    for now_s in range(seconds):
        sample = lag(900_000, 0, 7_000, held=(2,), end=1_000_000 + 2_000 * now_s)
        state = govern(state, sample, fleet, float(now_s), 0)
    shown = record_to_pb(Placed(1, 0, recorded(state, fleet, float(seconds))))
    group = shown.groups[0]
    assert (list(group.behind), list(group.sink_down)) == (["writer-1"], ["writer-2"])
    assert [(one.topic, one.partition) for one in group.hot_partitions] == [("t", 0)]
    assert [one.partition for one in group.partitions if one.held] == [2]
    assert (group.lag, group.held_lag) == (907_000, 7_000)
    assert group.rated
    assert group.produced_per_s == group.decoded_per_s == pytest.approx(2_000)
    assert group.desired_because
    assert (shown.rules.recovery_share, shown.rules.cooldown.seconds) == (0.5, 30)


def test_a_record_of_an_earlier_version_is_taken_over_too() -> None:
    """It says nothing of rates, held partitions or reversals."""
    old = (
        b'{"kind":"sample","process":"g","address":"g:1","epoch":7,"lag_level":1,"groups":[{"group":'
        b'"k2-writer","lag":5,"known":true,"level":1,"partitions":[["t",0,9,4]]}]}'
    )
    said = decode(old)
    assert said is not None
    assert taken(said, after_s=1.0).ladders[GROUP].level is Level.SOFT
    shown = record_to_pb(Placed(1, 0, said)).groups[0]
    assert not shown.rated
    assert not shown.partitions[0].held
    assert RecordedGroup("k2-writer", 5, known=True, level=1).fell_ago_s is None
