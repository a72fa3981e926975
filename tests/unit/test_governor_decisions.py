"""What the governor orders, from samples and a fleet, on a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace

from libs.degradation.level import Cause, Level, Rules
from libs.degradation.messages import Acknowledgement, OwnReport, Report
from services.governor.deciding.explain import explain
from services.governor.deciding.govern import Standing, directive, govern
from services.governor.observing import fleet as fleets
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import GroupLag, PartitionLag

GROUP = "k2-writer"
TTL_S = 10.0
REPORT = Report(
    service="writer",
    process="writer-1",
    memory_used_bytes=100,
    memory_limit_bytes=1_000,
    memory_baseline_bytes=50,
    memory_level=Level.NORMAL,
    applied_level=Level.NORMAL,
    applied_lag_level=Level.NORMAL,
    epoch=0,
    own=OwnReport(consumer_group=GROUP),
)


def standing() -> Standing:
    return Standing(Rules(), TTL_S, epoch=1_000)


def lag(records: int) -> dict[str, GroupLag]:
    halves = (records // 2, records - records // 2)
    parts = tuple(PartitionLag("t", number, size, 0) for number, size in enumerate(halves))
    return {GROUP: GroupLag(GROUP, parts, known=True)}


UNKNOWN = {GROUP: GroupLag(GROUP)}


def governed(
    before: Standing, *samples: dict[str, GroupLag], fleet: Fleet | None = None, start_s: float = 0
) -> Standing:
    """Half a second apart."""
    for number, sample in enumerate(samples):
        now_s = start_s + number / 2
        before = govern(before, sample, fleet or Fleet(), now_s, round(now_s * 1e6))
    return before


def fleet_of(*reports: Report) -> Fleet:
    fleet = Fleet()
    for stream, report in enumerate(reports):
        fleet = fleets.report(fleet, stream, report, 0, 0)
    return fleet


def level_of(state: Standing) -> Level:
    assert state.orders is not None
    return state.orders.level


def test_explanation_tells_the_lag_of_now_from_the_lag_before() -> None:
    """A level outlasts its lag: it must not read as if so little were much."""
    risen = governed(standing(), lag(150_000), lag(150_000))
    assert "SOFT because of lag: k2-writer is 150,000" in explain(risen, Fleet(), 1)
    drained = governed(risen, lag(84), start_s=1)
    assert level_of(drained) is Level.SOFT
    assert "SOFT because of lag before: k2-writer is 84" in explain(drained, Fleet(), 1)


def test_nothing_is_ordered_before_one_full_sample() -> None:
    """Unknown is not NORMAL."""
    state = governed(standing(), UNKNOWN, UNKNOWN)
    assert state.orders is None
    assert explain(state, Fleet(), 1).startswith("No level yet")
    assert level_of(governed(state, lag(0))) is Level.NORMAL


def test_group_is_known_only_when_every_group_is() -> None:
    """Half a sample is none."""
    sample = lag(0) | {"other": GroupLag("other")}
    assert governed(standing(), sample).orders is None


def test_level_rises_with_the_second_sample() -> None:
    """And every change takes the next sequence."""
    first = governed(standing(), lag(600_000))
    second = governed(first, lag(600_000), start_s=0.5)
    assert (level_of(first), level_of(second)) == (Level.NORMAL, Level.GRACEFUL)
    assert first.orders is not None
    assert second.orders is not None
    assert second.orders.sequence == first.orders.sequence + 1
    assert second.level_since_us == 500_000


def test_unchanged_orders_keep_their_sequence() -> None:
    """Live numbers are no orders."""
    assert (
        governed(standing(), lag(1), lag(2), lag(3)).orders == governed(standing(), lag(1)).orders
    )


def test_lag_that_cannot_be_read_holds_the_level_and_says_so() -> None:
    """For as long as it takes, with the last numbers on show."""
    high = governed(standing(), lag(600_000), lag(600_000))
    blind = governed(high, *[UNKNOWN] * 200, start_s=1)
    assert level_of(blind) is Level.GRACEFUL
    assert blind.orders is not None
    assert Cause.MISSING_DATA in blind.orders.causes
    assert blind.groups[GROUP].lag == 600_000
    assert "cannot be read" in explain(blind, Fleet(), 101)


def test_new_governor_starts_from_the_highest_applied_level() -> None:
    """However little lag it sees itself, and steps down from there."""
    fleet = fleet_of(
        replace(REPORT, applied_lag_level=Level.AGGRESSIVE),
        replace(REPORT, process="writer-2", applied_lag_level=Level.SOFT),
    )
    state = governed(standing(), lag(0), fleet=fleet)
    assert level_of(state) is Level.AGGRESSIVE
    later = governed(state, *[lag(0)] * 62, fleet=fleet, start_s=0.5)
    assert level_of(later) is Level.GRACEFUL


def test_process_is_adopted_once_and_within_a_ttl() -> None:
    """A report from before a step down raises nothing again; nor does who comes back late."""
    fleet = fleet_of(replace(REPORT, applied_lag_level=Level.SOFT))
    state = governed(standing(), lag(0), fleet=fleet)
    fast = replace(state, rules=Rules(cooldown_s=1))
    assert level_of(governed(fast, *[lag(0)] * 8, fleet=fleet, start_s=0.5)) is Level.NORMAL
    started = governed(standing(), lag(0))
    assert level_of(governed(started, lag(0), fleet=fleet, start_s=TTL_S + 1)) is Level.NORMAL


def test_shown_level_is_the_maximum_and_each_process_hears_its_own() -> None:
    """A full query service does not make the writers shed."""
    full = replace(REPORT, service="query", process="query-1", memory_level=Level.AGGRESSIVE)
    fleet = fleet_of(REPORT, full)
    state = governed(standing(), lag(200_000), lag(200_000), fleet=fleet)
    assert state.orders is not None
    assert state.orders.level is Level.AGGRESSIVE
    to_writer = directive(state, state.orders, REPORT)
    to_query = directive(state, state.orders, full)
    assert to_writer is not None
    assert to_query is not None
    assert (to_writer.level, to_writer.causes) == (Level.SOFT, (Cause.LAG,))
    assert (to_query.level, to_query.memory_level) == (Level.AGGRESSIVE, Level.AGGRESSIVE)
    assert "query-1" in explain(state, fleet, 1)


def test_process_that_ends_while_it_is_full_is_still_named() -> None:
    """It is started anew for its memory's sake, and the level stands until it has said so."""
    full = replace(REPORT, process="writer-2", memory_level=Level.CIRCUIT_BREAK)
    state = governed(standing(), lag(0), fleet=fleet_of(full))
    before = "memory before: writer-2 at 10% of its memory"
    assert before in explain(state, fleet_of(full), 1)
    assert "writer-2 was full a moment ago" in explain(state, fleet_of(REPORT), 1)


def test_process_that_is_fuller_by_now_is_not_said_to_have_been_full() -> None:
    """It has reported since the last sample: what is ordered is behind it for a moment."""
    full = replace(REPORT, memory_used_bytes=850, memory_level=Level.GRACEFUL)
    state = governed(standing(), lag(0), fleet=fleet_of(full))
    fuller = replace(full, memory_used_bytes=920, memory_level=Level.AGGRESSIVE)
    said = explain(state, fleet_of(fuller), 1)
    assert "GRACEFUL because of memory: writer-1 at 92% of its memory" in said


def test_process_is_told_nothing_before_the_controller_has_seen_it() -> None:
    """Else it would be lowered before its own level is taken over."""
    state = governed(standing(), lag(0))
    assert state.orders is not None
    assert directive(state, state.orders, REPORT) is None


def test_failed_commits_are_a_cause_and_no_level() -> None:
    """Shedding does not mend a sink."""
    failing = replace(REPORT, own=OwnReport(GROUP, commit_failures=3))
    state = governed(standing(), lag(0), fleet=fleet_of(failing))
    assert state.orders is not None
    assert state.orders.causes == (Cause.SINK_DOWN,)
    assert level_of(state) is Level.NORMAL
    assert "sink is down" in explain(state, fleet_of(failing), 1)


def test_one_partition_with_the_lag_is_a_cause() -> None:
    """And the explanation names it."""
    parts = (PartitionLag("t", 0, 900_000, 0), PartitionLag("t", 1, 5, 0))
    sample = {GROUP: GroupLag(GROUP, parts, known=True)}
    state = governed(standing(), sample, sample)
    assert state.orders is not None
    assert state.orders.causes == (Cause.HOT_PARTITION,)
    assert "Partition 0 of t" in explain(state, Fleet(), 1)


def test_process_counts_until_its_ttl_has_passed() -> None:
    """Then its memory level goes with it."""
    full = replace(REPORT, memory_level=Level.CIRCUIT_BREAK)
    fleet = fleets.close(fleet_of(full), 0, "writer-1", now_s=5)
    assert fleets.forget(fleet, TTL_S, 15).members
    assert not fleets.forget(fleet, TTL_S, 15.1).members
    state = governed(standing(), lag(0), fleet=fleet)
    assert level_of(state) is Level.CIRCUIT_BREAK
    assert level_of(governed(state, lag(0), start_s=1)) is Level.NORMAL


def test_the_epoch_that_a_forgotten_process_obeyed_is_not_forgotten() -> None:
    """It may come back, and obeys nothing older."""
    fleet = fleets.close(fleet_of(replace(REPORT, epoch=9)), 0, "writer-1", now_s=5)
    gone = fleets.forget(fleet, TTL_S, 16)
    assert gone.newest_epoch == 9
    assert fleets.report(gone, 1, replace(REPORT, epoch=3), 17, 0).newest_epoch == 9


def test_attached_process_is_never_forgotten() -> None:
    """However long ago it spoke: the stream's deadline closes it first."""
    assert fleets.forget(fleet_of(REPORT), TTL_S, 1e9).members


def test_replaced_connection_says_no_more() -> None:
    """Neither its reports nor its end count."""
    fleet = fleets.report(fleet_of(REPORT), 7, replace(REPORT, memory_used_bytes=7), 1, 1)
    fleet = fleets.acknowledge(fleet, "writer-1", Acknowledgement(1, 2))
    assert fleets.close(fleet, 0, "writer-1", 2) is fleet
    assert fleets.report(fleet, 0, REPORT, 2, 2) is fleet
    assert fleet.members["writer-1"].report.memory_used_bytes == 7


def test_only_writers_share_the_lag() -> None:
    """And there is always one."""
    assert fleet_of(REPORT, replace(REPORT, process="q", service="query")).writers == 1
    assert fleet_of(REPORT, replace(REPORT, process="writer-2")).writers == 2
    assert Fleet().writers == 1
