"""Shedding happens only where it helps: what the governor tells to whom, and why."""

from __future__ import annotations

from dataclasses import replace

from libs.degradation.level import Cause, Level, Rules
from libs.degradation.messages import Directive, OwnReport, Partition, Report
from services.governor.deciding.explain import explain
from services.governor.deciding.govern import Standing, directive, govern
from services.governor.observing import fleet as fleets
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import GroupLag, PartitionLag

GROUP = "k2-writer"
QUERY = Report(
    "query", "query-1", 1, 1_000, 1, Level.NORMAL, Level.NORMAL, Level.NORMAL, 0, OwnReport()
)


def writer(number: int, *, failures: int = 0, partitions: tuple[int, ...] = ()) -> Report:
    own = OwnReport(GROUP, {("t", p): 1 for p in partitions}, 0, failures)
    return replace(QUERY, service="writer", process=f"writer-{number}", own=own)


def fleet_of(*reports: Report) -> Fleet:
    fleet = Fleet()
    for stream, report in enumerate(reports):
        fleet = fleets.report(fleet, stream, report, 0, 0)
    return fleet


def lag(*sizes: int, held: tuple[int, ...] = (), end: int = 0) -> dict[str, GroupLag]:
    parts = tuple(PartitionLag("t", n, size, 0, n in held) for n, size in enumerate(sizes))
    return {GROUP: GroupLag(GROUP, parts, known=True, log_end=end or sum(sizes))}


def governed(
    *samples: dict[str, GroupLag], fleet: Fleet | None = None, before: Standing | None = None
) -> Standing:
    """Half a second apart."""
    state = before or Standing(Rules(), 10.0, epoch=1)
    start_s = 0.0 if before is None else 1_000.0
    for number, sample in enumerate(samples):
        now_s = start_s + number / 2
        state = govern(state, sample, fleet or Fleet(), now_s, round(now_s * 1e6))
    return state


def told(state: Standing, report: Report) -> Directive:
    assert state.orders is not None
    order = directive(state, state.orders, report)
    assert order is not None
    return order


def causes_of(state: Standing) -> tuple[Cause, ...]:
    assert state.orders is not None
    return state.orders.causes


EVEN = lag(*[50_000] * 16)


def test_sink_that_is_down_is_told_to_the_writer_whose_commits_fail() -> None:
    """The other one may shed what it is behind with; the query service hears of nothing."""
    one, two = writer(1, failures=3, partitions=(0,)), writer(2, partitions=tuple(range(1, 16)))
    state = governed(EVEN, EVEN, fleet=fleet_of(one, two, QUERY))
    assert Cause.SINK_DOWN in causes_of(state)
    assert [Cause.SINK_DOWN in told(state, each).causes for each in (one, two, QUERY)] == [
        True,
        False,
        False,
    ]


def test_sink_that_is_down_makes_nobody_else_shed() -> None:
    """Shedding by a writer that keeps up would help nobody."""
    one, two = writer(1, failures=3, partitions=(0, 1)), writer(2, partitions=(2, 3))
    sample = lag(400_000, 400_000, 50, 0)
    state = governed(sample, sample, fleet=fleet_of(one, two))
    assert Cause.SINK_DOWN in told(state, one).causes
    assert told(state, two).lag_level is Level.SOFT
    assert "writer-1's last 3 commits failed" in explain(state, fleet_of(one, two), 1)


def test_fewer_failures_are_no_sink_that_is_down() -> None:
    """And how many there must be is a setting."""
    fleet = fleet_of(writer(1, failures=2))
    assert Cause.SINK_DOWN not in causes_of(governed(EVEN, fleet=fleet))
    strict = Standing(Rules(sink_down_failures=2), 10.0, epoch=1)
    assert Cause.SINK_DOWN in causes_of(governed(EVEN, fleet=fleet, before=strict))


def test_hot_partition_is_named_to_its_writers() -> None:
    """Shedding by keys of any other partition would lose time for nothing."""
    one = writer(1, partitions=(0, 1))
    sample = lag(900_000, 10, 10, 10)
    state = governed(sample, sample, fleet=fleet_of(one, QUERY))
    assert told(state, one).hot_partitions == frozenset[Partition]({("t", 0)})
    assert Cause.HOT_PARTITION in told(state, one).causes
    assert told(state, QUERY).hot_partitions == frozenset()
    assert "Partition 0 of t has 100% of it" in explain(state, fleet_of(one), 1)


def test_hot_partition_stays_hot_down_to_half_of_the_share() -> None:
    """Else it would come and go, and each time everybody hears of it."""
    hot = governed(lag(900_000, 10_000), lag(900_000, 10_000))
    assert Cause.HOT_PARTITION in causes_of(governed(lag(500_000, 400_000), before=hot))
    assert Cause.HOT_PARTITION not in causes_of(governed(lag(100_000, 300_000), before=hot))
    cool = governed(lag(500_000, 400_000), lag(500_000, 400_000))
    assert Cause.HOT_PARTITION not in causes_of(cool)


def test_little_lag_in_one_partition_is_nothing_hot() -> None:
    """There is always one with most of it."""
    assert causes_of(governed(lag(90_000, 0), lag(90_000, 0))) == ()


def test_held_partition_is_a_cause_and_no_level() -> None:
    """Its lag is real, and no level helps records that cannot be read."""
    sample = lag(6_000_000, 10, 10, held=(0,))
    state = governed(sample, sample, sample)
    assert state.orders is not None
    assert (state.orders.level, causes_of(state)) == (Level.NORMAL, (Cause.HELD,))
    text = explain(state, Fleet(), 1)
    assert "is 20 records behind" in text
    assert "6,000,000 more wait in held partitions (0)" in text


def burst(*, produced: int, lags: tuple[int, ...]) -> list[dict[str, GroupLag]]:
    """Twenty seconds of 1,000 records a reading, then `produced` a reading, this much behind."""
    usual = [lag(0, 0, end=n * 1_000) for n in range(1, 41)]
    return usual + [
        lag(size // 2, size - size // 2, end=40_000 + n * produced)
        for n, size in enumerate(lags, 1)
    ]


def test_level_that_rose_because_more_came_is_an_ingress_burst() -> None:
    """The writers decode as they did, or more."""
    state = governed(*burst(produced=80_000, lags=(78_000, 156_000, 234_000)))
    assert Cause.INGRESS_BURST in causes_of(state)
    assert "because more came than usual" in explain(state, Fleet(), 30)


def test_level_that_rose_because_less_was_decoded_is_a_slow_writer() -> None:
    """What comes is as usual. It is so called until NORMAL, whatever comes later."""
    slow = governed(*burst(produced=1_000, lags=tuple(range(1_000, 300_000, 1_000))))
    assert Cause.SLOW_WRITER in causes_of(slow)
    later = [lag(140_000, 140_000, end=10**7 + n) for n in range(3)]
    assert Cause.SLOW_WRITER in causes_of(governed(*later, before=slow))


def test_nobody_knows_why_of_lag_that_was_there_before() -> None:
    """A governor that starts has seen no usual."""
    assert causes_of(governed(EVEN, EVEN)) == ()


def test_only_writers_that_are_behind_are_told_to_shed() -> None:
    """The other one reads other partitions: what it sheds helps nobody. It may skip and gather."""
    one, two = writer(1, partitions=(0, 1)), writer(2, partitions=(2, 3))
    sample = lag(600_000, 700_000, 900, 10)
    state = governed(sample, sample, fleet=fleet_of(one, two))
    assert [told(state, each).lag_level for each in (one, two)] == [Level.AGGRESSIVE, Level.SOFT]
    even = lag(300_000, 300_000, 300_000, 300_000)
    both = governed(even, even, fleet=fleet_of(one, two))
    assert {told(both, each).lag_level for each in (one, two)} == {Level.AGGRESSIVE}


def test_writer_stays_behind_until_its_group_sheds_no_more() -> None:
    """Else it would shed, catch up, stop, and fall behind, over and over."""
    one, two = writer(1, partitions=(0, 1)), writer(2, partitions=(2, 3))
    fleet, sample = fleet_of(one, two), lag(400_000, 400_000, 900, 10)
    state = governed(sample, sample, fleet=fleet)
    caught_up = governed(*[lag(10, 10, 10, 10)] * 10, fleet=fleet, before=state)
    assert told(caught_up, one).lag_level is Level.GRACEFUL
    over = governed(*[lag(10, 10, 10, 10)] * 200, fleet=fleet, before=state)
    assert told(over, one).lag_level is Level.NORMAL


def test_writer_that_sheds_already_goes_on_under_a_new_governor() -> None:
    """Nobody is lowered by a takeover, however little lag there is by then."""
    one = writer(1, partitions=(0, 1))
    shedding = replace(one, applied_level=Level.GRACEFUL, applied_lag_level=Level.GRACEFUL)
    state = governed(lag(10, 10, 10, 10), fleet=fleet_of(shedding, writer(2, partitions=(2, 3))))
    assert told(state, shedding).lag_level is Level.GRACEFUL
