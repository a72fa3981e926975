"""The certificate against a naive world: each trade of an exchange and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.completeness.certificate import Bounds, Certificate, certify
from libs.lake.completeness.evidence import Absent, Beyond, Book, Finding, Why, book_of
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.coverage import Ids, Series, join, merged
from libs.lake.ledger.gaps import SeriesGaps, gaps_in, outside
from libs.lake.ledger.ledger import Dead, Hole, Ledger, Lost, PartitionBook, Shed, joined
from libs.market.bucket import bucket_of

TOPIC = "market.crypto.trades.binance"
SYMBOL = "BTCUSDT"
# Another symbol of the same partition.
OTHER = next(f"X{n}" for n in range(1_000) if bucket_of(f"X{n}") == bucket_of(SYMBOL))
PLACE = TopicPartition(TOPIC, bucket_of(SYMBOL))
APART_US = 60_000_000


class Fate(Enum):
    """What became of a trade that the exchange made."""

    NEVER_SENT = auto()
    NOT_AT_THE_VENUE = auto()
    STORED = auto()
    DEAD = auto()
    DEAD_WITHOUT_KEY = auto()
    LOST = auto()
    SHED = auto()
    SHED_AND_KEPT = auto()


BELOW_THE_SEAM = [fate for fate in Fate for _ in range(6 if fate is Fate.STORED else 1)]

# Small worlds of these come to the edges of what ids can show.
SOME_LOST = [*[Fate.STORED] * 4, *[Fate.LOST] * 2, Fate.DEAD_WITHOUT_KEY, Fate.SHED]


class InTheTail(Enum):
    """What became of a trade past the seam."""

    HELD = auto()
    NEVER_SENT = auto()
    ABSENT = auto()
    REJECTED = auto()


PAST_THE_SEAM = [*InTheTail, *[InTheTail.HELD] * 6]
HELD = (Fate.STORED, Fate.SHED_AND_KEPT, InTheTail.HELD)
NEVER_LOGGED = (Fate.NEVER_SENT, Fate.NOT_AT_THE_VENUE, InTheTail.NEVER_SENT)


@dataclass(frozen=True)
class Trade:
    """One of the exchange's, at its offset in the log."""

    symbol: str
    number: int
    time_us: int
    offset: int
    fate: Fate | InTheTail


@dataclass(frozen=True)
class World:
    """Trades of two symbols in one partition, by offset, and what K2 knows of them."""

    trades: list[Trade]
    seam: int
    high: int
    clocks_apart_us: int

    def numbers(self, *fates: Fate | InTheTail, symbol: str = SYMBOL) -> set[int]:
        mine = (trade for trade in self.trades if trade.symbol == symbol)
        return {trade.number for trade in mine if trade.fate in fates}

    def held(self, symbol: str, fates: tuple[Fate | InTheTail, ...]) -> tuple[Ids, ...]:
        mine = [t for t in self.trades if t.symbol == symbol and t.fate in fates]
        each = sorted(Ids(t.number, t.number, t.time_us, t.time_us) for t in mine)
        return tuple(merged(each)) if each else ()

    def time_of(self, number: int) -> int:
        return next(t.time_us for t in self.trades if (t.symbol, t.number) == (SYMBOL, number))


def series_of(symbol: str) -> Series:
    return Series("BINANCE", "CRYPTO", symbol, 0)


def worlds(
    most: int = 12, others: int = 1, fates: list[Fate] = BELOW_THE_SEAM
) -> st.SearchStrategy[World]:
    """Draw what the exchange made, in order, and what became of each; one in four of another's."""
    symbols = st.sampled_from([SYMBOL] * 3 + [OTHER] * others)
    steps_us = st.sampled_from([0, 1, 1_000, 3 * APART_US])
    below = st.tuples(symbols, steps_us, st.sampled_from(fates))
    past = st.tuples(symbols, steps_us, st.sampled_from(PAST_THE_SEAM))
    return st.builds(
        world_of,
        st.lists(below, max_size=most),
        st.lists(past, max_size=most // 4),
        st.sampled_from([0, APART_US]),
    )


Made = tuple[str, int, Fate | InTheTail]


def world_of(below: list[Made], past: list[Made], clocks_apart_us: int) -> World:
    trades: list[Trade] = []
    numbers, time_us = {SYMBOL: 10, OTHER: 10}, 1_000
    for offset, (symbol, step_us, fate) in enumerate([*below, *past]):
        time_us += step_us
        numbers[symbol] += 1
        trades.append(Trade(symbol, numbers[symbol], time_us, offset, fate))
    return World(trades, len(below), len(trades), clocks_apart_us)


@st.composite
def scopes(draw: st.DrawFn, world: World) -> Scope:
    """Draw a question of times, of ids, or of neither."""
    times = [0, *(trade.time_us + shift for trade in world.trades for shift in (-1, 0, 1))]
    start = draw(st.sampled_from(times))
    end = draw(st.sampled_from(times)) if draw(st.booleans()) else Scope().end_us
    by_id = draw(st.sampled_from([False, False, True]))
    first = draw(st.none() | st.integers(9, 22)) if by_id else None
    last = draw(st.none() | st.integers(first or 9, 24)) if by_id else None
    return Scope(SYMBOL, "", start, max(start, end), first, last)


def questions(worlds: st.SearchStrategy[World]) -> st.SearchStrategy[tuple[World, Scope]]:
    return worlds.flatmap(lambda world: st.tuples(st.just(world), scopes(world)))


WORLDS = worlds()


def ledger_of(world: World) -> Ledger:
    book = PartitionBook(
        shed=joined(shed_of(world, t) for t in world.trades if t.fate in SHED_FATES),
        dead=joined(dead_of(world, t) for t in world.trades if t.fate in DEAD_FATES),
        lost=joined(lost_of(world, t) for t in world.trades if t.fate is Fate.LOST),
    )
    stored = {s: world.held(s, (Fate.STORED,)) for s in (SYMBOL, OTHER)}
    holes = tuple(Hole(n, n, "so they say", 0) for n in sorted(world.numbers(*NOT_THERE)))
    return Ledger(
        partitions={PLACE: book},
        coverage={series_of(s): held for s, held in stored.items() if held},
        holes={series_of(SYMBOL): holes},
    )


SHED_FATES = (Fate.SHED, Fate.SHED_AND_KEPT)
DEAD_FATES = (Fate.DEAD, Fate.DEAD_WITHOUT_KEY)
NOT_THERE = (Fate.NOT_AT_THE_VENUE,)


def recorded_us(world: World, trade: Trade) -> int:
    """Return when it was recorded at the earliest: our clock may be behind the exchange's."""
    return trade.time_us - world.clocks_apart_us


def shed_of(world: World, trade: Trade) -> Shed:
    at = trade.offset
    return Shed(at, at + 1, ("low",), "1", (trade.symbol,), 1, recorded_us(world, trade))


def dead_of(world: World, trade: Trade) -> Dead:
    key = trade.symbol if trade.fate is Fate.DEAD else ""
    return Dead(trade.offset, trade.offset + 1, key, "NOT_A_TRADE", recorded_us(world, trade))


def lost_of(world: World, trade: Trade) -> Lost:
    return Lost(trade.offset, trade.offset + 1, recorded_us(world, trade))


def beyond_of(world: World) -> Beyond:
    tail = {s: world.held(s, (InTheTail.HELD, Fate.SHED_AND_KEPT)) for s in (SYMBOL, OTHER)}
    alone = {t.fate: [] for t in world.trades}  # type: ignore[var-annotated]
    for trade in world.trades:
        alone[trade.fate].append(trade)
    return Beyond(
        held={series_of(s): held for s, held in tail.items() if held and s == SYMBOL},
        kept={TOPIC: {PLACE.partition: spans(alone.get(Fate.SHED_AND_KEPT, []))}},
        absent=[
            Absent(PLACE, OffsetRange(*s), Why.NOT_IN_THE_LOG)
            for s in spans(alone.get(InTheTail.ABSENT, []))
        ],
        rejected=[
            (PLACE, Dead(t.offset, t.offset + 1, t.symbol, "UNDECODABLE", recorded_us(world, t)))
            for t in alone.get(InTheTail.REJECTED, [])
        ],
    )


def spans(trades: list[Trade]) -> list[tuple[int, int]]:
    """Return their offsets as joined spans."""
    found: list[tuple[int, int]] = []
    for trade in trades:
        if found and found[-1][1] == trade.offset:
            found[-1] = (found[-1][0], trade.offset + 1)
        else:
            found.append((trade.offset, trade.offset + 1))
    return found


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
