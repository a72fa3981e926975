"""When a governor may claim, what it takes over, and what an operator may set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.degradation.level import Cause, Level, Rules
from libs.degradation.messages import Acknowledgement, Directive, OwnReport, Report
from libs.degradation.obedience import Obedience, hear
from libs.degradation.search import Search, failed, rested
from libs.market.errors import InvalidError
from services.governor.deciding.crossings import above_since, crossing
from services.governor.deciding.explain import explain
from services.governor.deciding.govern import Standing, govern
from services.governor.deciding.overrides import LONGEST_S, Override, make_override
from services.governor.leading import leadership as leading
from services.governor.leading.following import not_leading
from services.governor.leading.leadership import Leader, Leadership
from services.governor.leading.snapshots import restored, snapshot, taken_over
from services.governor.observing import fleet as fleets
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import GroupLag, PartitionLag
from services.governor.record.history import changes
from services.governor.record.records import Kind, Placed, Record, decode, encode

GROUP = "k2-writer"
OTHER = Leader("governor-1", "host-1:7104", 40)
US_PER_S = 1_000_000


def standby(**changed: object) -> Leadership:
    state = Leadership("governor-2", patience_s=4.0)
    return replace(leading.caught_up(state, 100.0), **changed)  # type: ignore[arg-type]


def lag(records: int) -> dict[str, GroupLag]:
    halves = (records // 2, records - records // 2)
    parts = tuple(PartitionLag("t", number, size, 0) for number, size in enumerate(halves))
    return {GROUP: GroupLag(GROUP, parts, known=True)}


def placed(kind: Kind, offset: int = 0, **fields: object) -> Placed:
    base = {"process": "governor-1", "address": "host-1:7104", "epoch": 40}
    record = Record(kind=kind, **(base | fields))  # type: ignore[arg-type]
    return Placed(offset, offset * US_PER_S, record)


def test_standby_claims_once_the_leader_has_been_silent_for_long_enough() -> None:
    """And not while it speaks."""
    state = leading.heard(standby(), OTHER, 100.0)
    assert not leading.may_claim(state, 103.9)
    assert leading.may_claim(state, 104.0)
    assert not leading.may_claim(leading.heard(state, OTHER, 103.0), 106.0)


def test_governor_that_cannot_read_the_topic_never_claims() -> None:
    """Its own deafness is not the leader's silence."""
    deaf = leading.deaf(leading.heard(standby(), OTHER, 100.0))
    assert not leading.may_claim(deaf, 1_000.0)
    back = leading.heard(leading.caught_up(deaf, 1_000.0), OTHER, 1_000.0)
    assert not leading.may_claim(back, 1_003.0)


@pytest.mark.parametrize(
    "state",
    [
        standby(),
        leading.heard(standby(), OTHER, 100.0, resigned=True),
        leading.heard(standby(), replace(OTHER, process="governor-2"), 100.0),
        leading.heard(standby(fresh=False, led_epoch=40), OTHER, 100.0),
    ],
    ids=["nobody led", "resigned", "it was this name", "it was this one"],
)
def test_governor_claims_at_once_where_nobody_can_lead(state: Leadership) -> None:
    """No waiting for who is known to be gone."""
    assert leading.may_claim(state, 100.0)


def test_governor_that_was_fenced_by_its_namesake_waits() -> None:
    """Else two of one name would fence each other for ever."""
    led = leading.claimed(standby(), 50, "host-2:7104")
    fenced = leading.caught_up(leading.deaf(led), 200.0)
    namesake = leading.heard(fenced, Leader("governor-2", "host-3:7104", 60), 200.0)
    assert not leading.may_claim(namesake, 201.0)


def test_claim_is_newer_than_all_that_was_recorded_or_obeyed() -> None:
    """Also where the topic was made anew and its offsets begin at 0."""
    state = leading.obeyed(leading.heard(standby(), OTHER, 100.0), 700)
    assert state.floor == 701
    assert placed("claim", offset=3, epoch=701).epoch == 701
    assert placed("claim", offset=900, epoch=701).epoch == 900
    assert leading.outdated(leading.obeyed(leading.claimed(state, 701, "a:1"), 702))


def test_who_does_not_lead_names_the_leader() -> None:
    """As a sentence, and as a fact for agents."""
    error = not_leading(leading.heard(standby(), OTHER, 100.0))
    assert error.message == "governor-2 stands by: governor-1 at host-1:7104 leads"
    assert error.facts == {"leader": "host-1:7104"}
    assert "without Kafka no governor leads" in not_leading(leading.deaf(standby())).message


def test_record_comes_back_and_what_is_none_is_passed_by() -> None:
    """A later version may write what this one cannot read."""
    record = placed("sample", override=Override(2, "why", 5, 60.0), causes=("LAG",)).record
    assert decode(encode(record)) == record
    assert decode(b'{"kind":"tomorrow","process":"a","address":"b","epoch":1}') is None
    assert decode(b"\xff") is None
    assert decode(None) is None


def test_new_leader_takes_over_levels_and_override_from_the_record() -> None:
    """A claim says neither; the newest snapshot and the last word on the override count."""
    blank = Standing(Rules(), 10.0, epoch=0)
    override = make_override(Level.SOFT, "upgrade", 600, 0)
    state = replace(blank, override=override, override_until_s=600)
    for now_s in (0.0, 0.5):
        state = govern(state, lag(600_000), Fleet(), now_s, 7 * US_PER_S)
    said = snapshot("sample", state, Fleet(), OTHER, 1.0)
    assert (said.lag_level, said.groups[0].level) == (Level.SOFT, Level.GRACEFUL)

    before = restored([Placed(1, 70 * US_PER_S, said), placed("claim", 72)])
    again = taken_over(blank, 41, before, now_s=50.0, now_us=100 * US_PER_S)
    assert again.ladders[GROUP].level is Level.GRACEFUL
    assert again.override == override
    assert again.override_until_s == 50 + 500
    cleared = restored([Placed(1, 0, said), placed("override", 2)])
    assert cleared.override is None


def test_leader_that_lost_its_term_orders_nothing_of_it_in_the_next() -> None:
    """Its controller may not have looked since: what stands there is of the term before."""
    state = Standing(Rules(), 10.0, epoch=40)
    for now_s in (0.0, 0.3):
        state = govern(state, lag(600_000), Fleet(), now_s, 0)
    assert state.orders is not None
    again = taken_over(state, 44, restored([placed("claim", 44)]), now_s=1.0, now_us=0)
    assert (again.epoch, again.orders) == (44, None)


def test_override_sets_the_lag_level_both_ways_and_ends() -> None:
    """Recorded as such; the ladder beneath goes on by the lag."""
    override = Override(int(Level.NORMAL), "planned load test", 0, 10.0)
    state = Standing(Rules(), 10.0, epoch=1, override=override, override_until_s=10.0)
    for now_s in (0.0, 0.5):
        state = govern(state, lag(600_000), Fleet(), now_s, 0)
    assert state.orders is not None
    assert state.orders.level is Level.NORMAL
    assert Cause.OVERRIDE in state.orders.causes
    assert "an operator set it: planned load test" in explain(state, Fleet(), 1.0)
    assert "it would be GRACEFUL" in explain(state, Fleet(), 1.0)
    after = govern(state, lag(600_000), Fleet(), 10.0, 0)
    assert after.orders is not None
    assert (after.orders.level, after.orders.override) == (Level.GRACEFUL, "")


def test_level_that_an_operator_set_is_not_taken_over_as_the_lags() -> None:
    """A new leader finds it applied everywhere; when its time is over, so is the level."""
    override = Override(int(Level.AGGRESSIVE), "drill", 0, 5.0)
    state = Standing(Rules(), 10.0, epoch=1, override=override, override_until_s=5.0)
    own, set_level = OwnReport(GROUP), Level.AGGRESSIVE
    said = Report("writer", "w", 1, 9, 1, Level.NORMAL, set_level, set_level, 0, own)
    fleet = fleets.report(Fleet(), 1, said, 0.0, 0)
    levels = []
    for now_s in (0.0, 6.0):
        state = govern(state, lag(0), fleet, now_s, 0)
        assert state.orders is not None
        levels.append(state.orders.level)
    assert levels == [Level.AGGRESSIVE, Level.NORMAL]


@pytest.mark.parametrize(
    ("reason", "for_s", "field"),
    [
        ("  ", 60, "reason"),
        ("x" * 201, 60, "reason"),
        ("why", 0, "duration"),
        ("why", LONGEST_S + 1, "duration"),
    ],
)
def test_override_needs_a_reason_and_an_end(reason: str, for_s: float, field: str) -> None:
    """Nobody finds a level set for ever by nobody knows whom."""
    with pytest.raises(InvalidError) as refused:
        make_override(Level.SOFT, reason, for_s, 0)
    assert refused.value.field == field


def test_override_never_lasts_longer_than_was_asked_for() -> None:
    """Whichever way the clock was set meanwhile."""
    override = Override(1, "why", 1_000 * US_PER_S, 60.0)
    assert override.left_s(1_000 * US_PER_S) == 60
    assert override.left_s(0) == 60
    assert override.left_s(1_050 * US_PER_S) == 10
    assert override.left_s(9_999 * US_PER_S) < 0


def test_directive_ends_one_ttl_after_the_report_it_answers() -> None:
    """However long it was under way; one that comes after that is refused."""
    order = Directive(1, 1, 10.0, Level.SOFT, Level.NORMAL, answers_ms=100_000)
    state, answer = hear(Obedience(), order, 106.0)
    assert not answer.refused_because
    assert (state.directed(109.9), state.directed(110.0)) == (True, False)
    late = hear(Obedience(), order, 110.0)[1]
    assert late.refused_because == "stale: it answers a report of 10.0 s ago"


def test_unknown_policy_is_refused_and_changes_nothing() -> None:
    """A process without a policy obeys whichever is demanded."""
    order = Directive(1, 1, 10.0, Level.SOFT, Level.NORMAL, policy="v2-abc")
    state, answer = hear(Obedience(policy="v1-def"), order, 0.0)
    assert answer == Acknowledgement(1, 1, "unknown policy v2-abc: this process has v1-def")
    assert not state.directed(0.0)
    for policy in ("", "v2-abc"):
        assert hear(Obedience(policy=policy), order, 0.0)[0].directed(0.0)


def test_search_follows_the_leader_and_goes_round() -> None:
    """It rests once all have failed, and follows no hint in a circle."""
    search = Search.among("a:1, b:2")
    assert search.address == "a:1"
    pointed = failed(search, "c:3")
    assert (pointed.address, pointed.rests) == ("c:3", False)
    assert failed(pointed, "a:1").address == "b:2"
    back = failed(failed(search), "a:1")
    assert (back.address, back.rests) == ("a:1", True)
    assert not rested(back).rests


def test_crossing_is_measured_from_the_first_reading_above() -> None:
    """Not from the second, which raises the level."""
    states = [Standing(Rules(), 10.0, epoch=1)]
    since_s: dict[str, float] = {}
    for now_s, records in ((0.0, 0), (1.0, 200_000), (1.4, 200_000)):
        states.append(govern(states[-1], lag(records), Fleet(), now_s, 0))
        since_s = above_since(since_s, states[-2], states[-1], now_s)
    crossed = crossing(since_s, states[-2], states[-1])
    assert crossed is not None
    assert (crossed.group, crossed.at_s) == (GROUP, 1.0)
    assert crossed.answered_by(Acknowledgement(1, crossed.sequence + 1))
    assert not crossed.answered_by(Acknowledgement(1, crossed.sequence, "no"))


def test_changes_of_level_are_found_in_samples() -> None:
    """The newest first."""
    levels = (0, 0, 1, 1, 3, 0)
    found = changes(placed("sample", at, lag_level=level) for at, level in enumerate(levels))
    assert [change.offset for change in found] == [5, 4, 2]
