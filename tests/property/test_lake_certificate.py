"""The certificate against a naive world: each trade of an exchange and what became of it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.lake.completeness.certificate import Bounds, Certificate, certify
from libs.lake.completeness.evidence import Beyond, Book, Finding, Why, book_of
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.coverage import Ids, join, merged
from libs.lake.ledger.gaps import SeriesGaps, gaps_in, outside
from libs.lake.ledger.ledger import Hole
from tests.support.worlds import (
    APART_US,
    DEAD_FATES,
    HELD,
    NEVER_LOGGED,
    NOT_THERE,
    PLACE,
    SOME_LOST,
    SYMBOL,
    TOPIC,
    WORLDS,
    Fate,
    InTheTail,
    Trade,
    World,
    beyond_of,
    ledger_of,
    questions,
    world_of,
    worlds,
)


def certificate_of(world: World, scope: Scope) -> Certificate:
    ledger = ledger_of(world)
    mine = [series for series in {**ledger.coverage, **ledger.holes} if scope.covers(series)]
    bounds = Bounds(
        snapshot_id=1,
        seam={TOPIC: {PLACE.partition: world.seam}},
        high={TOPIC: {PLACE.partition: world.high}},
        log_ends={TOPIC: {PLACE.partition: world.high}},
        log_is_known=True,
    )
    return certify(book_of(ledger, mine, scope), beyond_of(world), scope, bounds)


def named(found: tuple[Finding, ...] | list[Finding], why: Why) -> set[int]:
    ranges = [each.ids for each in found if each.why is why and each.ids]
    return {number for ids in ranges for number in range(ids.first, ids.last + 1)}


def positions(found: tuple[Finding, ...], why: Why) -> set[int]:
    ranges = [each.offsets for each in found if each.why is why and each.offsets]
    return {offset for low, high in ranges for offset in range(low, high)}


@given(WORLDS)
def test_gaps_and_holes_are_exactly_the_ids_missing_between_held_ones(world: World) -> None:
    """Each id between the first and the last held is held, a hole of the venue, or a gap."""
    found = certificate_of(world, Scope(SYMBOL)).findings
    held = world.numbers(*HELD)
    inside = set(range(min(held), max(held))) - held if held else set()
    declared = world.numbers(*NOT_THERE) & inside
    assert named(found, Why.VENUE) == declared
    assert named(found, Why.GAP) == inside - declared


@given(WORLDS)
def test_positions_are_named_for_the_symbol_they_may_concern(world: World) -> None:
    """Lost, dead and shed positions are told, those of another symbol's key are not."""
    found = certificate_of(world, Scope(SYMBOL)).findings
    mine = {t.offset: t for t in world.trades}
    dead = (*DEAD_FATES, InTheTail.REJECTED)
    assert positions(found, Why.LOST) == {o for o, t in mine.items() if t.fate is Fate.LOST}
    assert positions(found, Why.DEAD_LETTER) == {
        o
        for o, t in mine.items()
        if t.fate in dead and (t.symbol == SYMBOL or t.fate is Fate.DEAD_WITHOUT_KEY)
    }
    shed = {o for o, t in mine.items() if t.fate is Fate.SHED and t.symbol == SYMBOL}
    assert shed <= positions(found, Why.SHED)


LOST_BY_A_SLOW_CLOCK = world_of(
    [(SYMBOL, 0, Fate.STORED), (SYMBOL, 1, Fate.LOST)], [], clocks_apart_us=APART_US
)


LOST_WITH_THE_FIRST = world_of(
    [(SYMBOL, 0, Fate.LOST), (SYMBOL, 0, Fate.STORED), (SYMBOL, 9, Fate.STORED)], [], 0
)


LOST_WITH_THE_LAST = world_of(
    [(SYMBOL, 0, Fate.STORED), (SYMBOL, 9, Fate.STORED), (SYMBOL, 0, Fate.LOST)], [], 0
)


@example((LOST_BY_A_SLOW_CLOCK, Scope(SYMBOL, start_us=1_001)))
@example((LOST_WITH_THE_FIRST, Scope(SYMBOL, start_us=1_000, end_us=1_005)))
@example((LOST_WITH_THE_LAST, Scope(SYMBOL, start_us=1_001, end_us=1_010)))
@settings(max_examples=300)
@given(questions(worlds(most=4, others=0, fates=SOME_LOST)))
def test_complete_means_that_no_trade_of_the_question_is_missing(
    question: tuple[World, Scope],
) -> None:
    """Whatever was lost, shed or dead-lettered: where it says complete, all of it is held."""
    world, scope = question
    if not certificate_of(world, scope).complete:
        return
    for trade in world.trades:
        logged = trade.fate not in NEVER_LOGGED
        if trade.symbol == SYMBOL and logged and asked_for(trade, scope):
            assert trade.fate in HELD


def asked_for(trade: Trade, scope: Scope) -> bool:
    first = trade.number if scope.first_id is None else scope.first_id
    last = trade.number if scope.last_id is None else scope.last_id
    return first <= trade.number <= last and scope.start_us <= trade.time_us < scope.end_us


@given(questions(WORLDS))
def test_a_trade_never_sent_is_named_where_it_may_be_of_the_question(
    question: tuple[World, Scope],
) -> None:
    """A gap is told in every time that its trades can be of, and in no other."""
    world, scope = question
    held = sorted(world.numbers(*HELD))
    missing = set()
    for before, after in pairwise(held):
        times = world.time_of(before), world.time_of(after)
        if times[0] < scope.end_us and times[1] >= scope.start_us:
            missing |= set(range(before + 1, after)) - world.numbers(*NOT_THERE)
    asked = {n for n in missing if (scope.first_id or n) <= n <= (scope.last_id or n)}
    between = set(range(held[0], held[-1])) if held else set()
    assert named(certificate_of(world, scope).findings, Why.GAP) & between == asked


@given(WORLDS)
def test_a_certificate_counts_what_is_held(world: World) -> None:
    """Ids in the table and ids in the tail alone, each once."""
    accounts = certificate_of(world, Scope(SYMBOL)).accounts
    stored = world.numbers(Fate.STORED)
    tail = world.numbers(InTheTail.HELD, Fate.SHED_AND_KEPT)
    assert sum(account.stored_ids for account in accounts) == len(stored)
    assert sum(account.tail_ids for account in accounts) == len(tail - stored)
    found = certificate_of(world, Scope(SYMBOL)).findings
    assert named(found, Why.NOT_COMMITTED) == tail - stored


NUMBERS = st.sets(st.integers(0, 40), max_size=30)


def runs(numbers: set[int]) -> tuple[Ids, ...]:
    each = [Ids(n, n, n * 7 % 50, n * 7 % 50) for n in sorted(numbers)]
    return tuple(merged(each)) if each else ()


@given(NUMBERS, NUMBERS, st.integers(0, 50), st.integers(0, 50))
def test_gaps_with_more_held_are_those_of_the_union(
    stored: set[int], tail: set[int], start: int, end: int
) -> None:
    """What is remembered of a ledger's gaps gives the same answer as looking anew."""
    holes = (Hole(3, 9, "a", 0), Hole(8, 12, "b", 0), Hole(30, 30, "c", 0))
    known = SeriesGaps.of(runs(stored), holes)
    anew = [g for g in gaps_in(join(runs(stored), runs(tail)), holes) if g.meets(start, end)]
    assert known.with_more(runs(tail), start, end) == anew


@given(NUMBERS, NUMBERS)
def test_ids_outside_are_the_difference(more: set[int], held: set[int]) -> None:
    """What only the tail has is what it has less what the table has."""
    found = outside(runs(more), runs(held))
    assert {n for ids in found for n in range(ids.first, ids.last + 1)} == more - held


def test_nothing_is_complete_before_the_logs_end_is_known() -> None:
    """True is never a default."""
    bounds = Bounds(1, {}, {}, {}, log_is_known=False)
    assert not certify(Book(), Beyond(), Scope(SYMBOL), bounds).complete
