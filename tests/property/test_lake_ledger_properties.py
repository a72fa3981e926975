"""The algebra of coverage and books against sets of ids and positions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.claims import claims_of, first_wins
from libs.lake.ledger.codec import decode, encode
from libs.lake.ledger.coverage import (
    Coverage,
    Held,
    Ids,
    Series,
    contains,
    gaps,
    held_ids,
    overlaps,
    union,
)
from libs.lake.ledger.ledger import (
    EMPTY_LEDGER,
    Account,
    Dead,
    Hole,
    Ledger,
    Lost,
    Shed,
    closed,
    entered,
    joined,
    open_shed,
    with_holes,
    with_line,
    with_lost,
)
from tests.support.trades import trade_rows

AT = TopicPartition("trades", 3)
SERIES = [Series("BINANCE", "CRYPTO", symbol, epoch) for symbol in "AB" for epoch in (0, 7)]
series = st.sampled_from(SERIES)
ids_sets = st.sets(st.integers(0, 30))
holdings = st.dictionaries(series, ids_sets)


def held_of(ids: set[int]) -> Held:
    """Build the ranges of ids the slow way; an id's time is the id."""
    ordered = sorted(ids)
    breaks = [at for at, (low, high) in enumerate(pairwise(ordered), 1) if high != low + 1]
    parts = pairwise([0, *breaks, len(ordered)]) if ordered else []
    return tuple(Ids(ordered[a], ordered[b - 1], ordered[a], ordered[b - 1]) for a, b in parts)


def coverage_of(sets: dict[Series, set[int]]) -> Coverage:
    return {key: held_of(ids) for key, ids in sets.items() if ids}


def ids_of(coverage: Coverage, key: Series) -> set[int]:
    return {at for ids in coverage.get(key, ()) for at in range(ids.first, ids.last + 1)}


@given(one=holdings, other=holdings)
def test_union_holds_what_either_does(
    one: dict[Series, set[int]], other: dict[Series, set[int]]
) -> None:
    """As the fewest ranges, each with the times of its earliest and latest trade."""
    both = {key: one.get(key, set()) | other.get(key, set()) for key in SERIES}
    assert union(coverage_of(one), coverage_of(other)) == coverage_of(both)


@given(one=holdings, other=holdings, third=holdings)
def test_merge_is_associative_commutative_and_idempotent(
    one: dict[Series, set[int]], other: dict[Series, set[int]], third: dict[Series, set[int]]
) -> None:
    """In whatever order commits are merged, and however often, the coverage is the same."""
    a, b, c = map(coverage_of, (one, other, third))
    assert union(union(a, b), c) == union(a, union(b, c))
    assert union(a, b) == union(b, a)
    assert union(union(a, b), b) == union(a, b)


@given(one=holdings, other=holdings)
def test_overlaps_are_the_ids_in_both(
    one: dict[Series, set[int]], other: dict[Series, set[int]]
) -> None:
    """None missing, none too many, and no series without any."""
    found = overlaps(coverage_of(one), coverage_of(other))
    for key in SERIES:
        common = one.get(key, set()) & other.get(key, set())
        ranges = found.get(key, ())
        assert {i for r in ranges for i in range(r.first, r.last + 1)} == common
        assert (key in found) == bool(common)


@given(held=holdings, key=series, asked=st.lists(st.integers(-3, 33)))
def test_contains_says_of_each_id(
    held: dict[Series, set[int]], key: Series, asked: list[int]
) -> None:
    """In any order, repeats too."""
    mask = contains(coverage_of(held), key, np.array(asked, dtype=np.int64))
    assert mask.tolist() == [one in held.get(key, set()) for one in asked]


@given(held=ids_sets)
def test_gaps_are_what_is_missing_between(held: set[int]) -> None:
    """Neither below the first id held nor above the last."""
    missing = {i for gap in gaps(held_of(held)) for i in range(gap.first, gap.last + 1)}
    assert missing == (set(range(min(held), max(held))) - held if held else set())


rows_of = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 12))), max_size=40
)


def table(rows: list[tuple[int, int | None]], first_offset: int = 0) -> pa.Table:
    """Rows of (series, id); the time of a trade is its id."""
    keys = [SERIES[at] for at, _ in rows]
    return trade_rows(
        len(rows),
        columns={
            "exchange": pa.array([key.exchange for key in keys], pa.string()),
            "asset_class": pa.array([key.asset_class for key in keys], pa.string()),
            "symbol": pa.array([key.symbol for key in keys], pa.string()),
            "sequence_epoch": pa.array([key.epoch for key in keys], pa.int32()),
            "source_sequence": pa.array([one for _, one in rows], pa.int64()),
            "timestamp": pa.array([one or 0 for _, one in rows], pa.int64()),
            "kafka_offset": pa.array(range(first_offset, first_offset + len(rows)), pa.int64()),
        },
    )


@settings(deadline=None)
@given(rows=rows_of.filter(bool), held=holdings)
def test_first_wins_is_a_naive_set(
    rows: list[tuple[int, int | None]], held: dict[Series, set[int]]
) -> None:
    """Against the coverage and within the rows; what has no id is kept."""
    wins = first_wins(table(rows), coverage_of(held))
    seen = {(key, one) for key, ids in held.items() for one in ids}
    keep, counts, claimed = [], dict.fromkeys(SERIES, 0), {key: set[int]() for key in SERIES}
    for at, one in rows:
        new = one is None or (SERIES[at], one) not in seen
        keep.append(new)
        if one is not None:
            seen.add((SERIES[at], one))
            claimed[SERIES[at]] |= {one} if new else set()
            counts[SERIES[at]] += not new
    assert wins.keep.tolist() == keep
    assert wins.duplicates == {key: count for key, count in counts.items() if count}
    assert wins.claims == coverage_of(claimed)


@settings(deadline=None)
@given(rows=rows_of.filter(bool))
def test_claims_are_the_ids_of_the_rows(rows: list[tuple[int, int | None]]) -> None:
    """Each once, however often it is there."""
    found = claims_of(table(rows))
    for at, key in enumerate(SERIES):
        assert ids_of(found, key) == {i for s, i in rows if s == at and i is not None}


@settings(deadline=None)
@given(
    rows=rows_of.filter(bool),
    splits=st.lists(st.integers(1, 7), max_size=12),
    restarts=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_dedupe_is_the_same_however_the_log_is_cut(
    rows: list[tuple[int, int | None]], splits: list[int], restarts: list[bool]
) -> None:
    """Whatever the batches, and wherever a writer starts anew from the ledger's file."""
    whole = first_wins(table(rows), {})
    ledger, kept = EMPTY_LEDGER, []
    bounds = [0, *(at for at in accumulate(splits) if at < len(rows)), len(rows)]
    for (start, stop), restart in zip(pairwise(bounds), [*restarts, False] * 2, strict=False):
        wins = first_wins(table(rows[start:stop], start), ledger.coverage)
        kept += wins.keep.tolist()
        account = Account(duplicates=wins.duplicates)
        ledger = entered(ledger, {AT: account}, [wins.claims])
        ledger = decode(encode(ledger)) if restart else ledger
    assert kept == whole.keep.tolist()
    assert ledger.coverage == whole.claims
    assert ledger.duplicates == whole.duplicates


def test_replay_adds_nothing() -> None:
    """The whole log once more, in other batches: all duplicates, the coverage as it was."""
    rows: list[tuple[int, int | None]] = [(at % 4, at // 3) for at in range(60)]
    once = first_wins(table(rows), {})
    again = first_wins(table(rows[::-1]), once.claims)
    assert not again.keep.any()
    assert again.claims == {}
    assert sum(again.duplicates.values()) == len(rows)


starts = st.lists(st.integers(1, 4), max_size=8)
names = st.sampled_from([("A",), ("B",), ("A", "C")])


@st.composite
def books(draw: st.DrawFn) -> Ledger:
    """Grow a ledger as commits do: each takes up where the one before ended."""
    ledger, at = EMPTY_LEDGER, 0
    for n, kind in enumerate(draw(st.lists(st.integers(0, 3), max_size=10))):
        end = at + draw(st.integers(1, 4))
        symbols = draw(names)
        account = {
            0: Account(shed=(Shed(at, end, symbols, "v1", symbols, end - at, n),)),
            1: Account(dead=(Dead(at, end, symbols[0], "EMPTY", n),)),
            2: Account(duplicates={SERIES[0]: end - at}),
        }.get(kind)
        claims = [] if account else [{SERIES[n % 4]: (Ids(at, end, at, end),)}]
        ledger = entered(ledger, {AT: account} if account else {}, claims)
        ledger = with_line(ledger, n * 40_000_000, {AT.topic: {AT.partition: end}})
        at = end
    ledger = with_lost(ledger, AT, [Lost(at, at + 2, 9)])
    return with_holes(ledger, {SERIES[1]: (Hole(100, 120, "delisted", 9),)})


def shed_positions(ledger: Ledger) -> set[tuple[int, str]]:
    return positions_of(ledger.book(AT).shed)


def positions_of(sheds: Iterable[Shed]) -> set[tuple[int, str]]:
    return {
        (at, symbol)
        for shed in sheds
        for at in range(shed.start, shed.end)
        for symbol in shed.symbols
    }


@settings(deadline=None)
@given(ledger=books())
def test_ledger_survives_its_file(ledger: Ledger) -> None:
    """What is read is what was written."""
    assert decode(encode(ledger)) == ledger


@settings(deadline=None)
@given(ledger=books(), start=st.integers(0, 30), count=st.integers(1, 10))
def test_closing_takes_exactly_its_range(ledger: Ledger, start: int, count: int) -> None:
    """Nothing of it stays shed, nothing else changes; a range is open only where all of it is."""
    end = start + count
    before, after = shed_positions(ledger), shed_positions(closed(ledger, AT, start, end))
    assert after == {(at, symbol) for at, symbol in before if not start <= at < end}
    whole = {at for at, _ in before} >= set(range(start, end))
    cut = open_shed(ledger, AT, start, end)
    assert bool(cut) == whole
    if cut:
        inside = {(at, symbol) for at, symbol in before if start <= at < end}
        assert positions_of(cut) == inside


@settings(deadline=None)
@given(ledger=books(), claimed=ids_sets)
def test_coverage_never_shrinks(ledger: Ledger, claimed: set[int]) -> None:
    """Whatever is entered; and a hole at the venue loses the ids that turned up."""
    claims = coverage_of({SERIES[1]: {100 + one for one in claimed}})
    grown = entered(ledger, {}, [claims])
    for key in SERIES:
        assert ids_of(ledger.coverage, key) <= ids_of(grown.coverage, key)
    holes = {i for h in grown.holes.get(SERIES[1], ()) for i in range(h.first, h.last + 1)}
    assert holes == set(range(100, 121)) - ids_of(grown.coverage, SERIES[1])


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=20), parts=st.integers(1, 20))
def test_joined_ranges_are_the_fewest(lengths: list[int], parts: int) -> None:
    """A burst is one range, however many commits it came in."""
    bounds = list(accumulate(lengths, initial=0))
    ranges = [Dead(a, b, "A", "EMPTY", 1) for a, b in pairwise(bounds)]
    some = joined([*joined(ranges[:parts]), *joined(ranges[parts:])])
    assert some == (Dead(0, bounds[-1], "A", "EMPTY", 1),)


def test_ledger_grows_with_holes_and_not_with_trades() -> None:
    """A hundred times the trades take no more room; a hole takes its own."""

    def size(trades: int, holes: int) -> int:
        ids = set(range(trades)) - {trades * n // (holes + 1) for n in range(1, holes + 1)}
        ledger = entered(EMPTY_LEDGER, {}, [{SERIES[0]: held_of(ids)}])
        assert held_ids(ledger.coverage) == trades - holes
        return len(encode(ledger))

    assert size(100_000, 10) < size(1_000, 10) + 100
    assert size(1_000, 20) > size(1_000, 10) + 100
