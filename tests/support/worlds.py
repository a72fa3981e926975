"""Worlds of trades, each with a fate of its own, and the ledger and tail that they leave."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from hypothesis import strategies as st

from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.completeness.evidence import Absent, Beyond, Why
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.coverage import Ids, Series, merged
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
