"""Whether an answer is complete: what a state's ledger and tail say of what was asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import pyarrow as pa

from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.completeness.certificate import Bounds, Certificate, certify
from libs.lake.completeness.evidence import Absent, Beyond, Book, Finding, Why, book_of, without
from libs.lake.completeness.findings import lacking
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.claims import claims_of
from libs.lake.ledger.coverage import EMPTY_COVERAGE, Coverage, Held, Series, union
from libs.lake.ledger.ledger import Ledger
from libs.market.bucket import bucket_of
from services.query.completeness.missing import MissingRange
from services.query.offsets import Offsets, ahead, offset_at
from services.query.state import State
from services.query.tail.chunk import Chunk, Numbering, at_or_past, reaches_past
from services.query.tail.tail import Tail

# States of older snapshots are asked now and then.
KEPT_LEDGERS = 4
# More than there are symbols: callers may ask for names that are none, without end.
KEPT_BOOKS = 16_384
RECORDED = frozenset({Why.SHED, Why.LOST, Why.DEAD_LETTER})
NOT_KNOWN_YET = "the end of the log is not known yet"
SINCE_THEN = "what was brought later than this bound is not told from what was there"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether nothing of what was asked for is missing, and if not, what."""

    complete: bool
    lacks: tuple[Finding, ...] = ()


class Bound(NamedTuple):
    """The upper bound of an answer's rows, and the ids the table has at or past it.

    None where they were not looked up: then nobody can say which were there below.
    """

    ceiling: Offsets
    later: Coverage | None


class LedgerBooks:
    """What one ledger says of each symbol, looked up once."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._series: dict[str, list[Series]] = {}
        for series in {**ledger.coverage, **ledger.holes}:
            self._series.setdefault(series.symbol, []).append(series)
        self._books: dict[tuple[str, str], Book] = {}

    def book(self, scope: Scope) -> Book:
        names = scope.symbol, scope.exchange
        if names not in self._books:
            if len(self._books) >= KEPT_BOOKS:
                self._books.clear()
            self._books[names] = book_of(self.ledger, self._series_of(scope), scope)
        return self._books[names]

    def _series_of(self, scope: Scope) -> list[Series]:
        if scope.symbol:
            known: Iterable[Series] = self._series.get(scope.symbol, ())
        else:
            known = (one for found in self._series.values() for one in found)
        return [series for series in known if scope.covers(series)]


class Certifier:
    """Says of answers whether they are complete; remembers the last ledgers' books.

    For one thread: the event loop's.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[int, LedgerBooks] = OrderedDict()

    def verdict(self, state: State, scope: Scope, bound: Bound | None = None) -> Verdict:
        """Judge the rows of a state in scope, those below a bound where there is one."""
        book = self.book(state, scope)
        if bound is None:
            found = lacking(book, beyond_of(state, scope), scope)
        else:
            found = lacking_below(book, state, scope, bound)
        return verdict_of(state, found)

    def still(self, state: State, scope: Scope) -> Verdict:
        """Judge rows that all were there before: they may have gone, for good or out of reach.

        Another service may not have read back what was shed, and the log forgets. A gap that has
        come since lies past the state's upper bound.
        """
        gone = Beyond(absent=[absent(missing) for missing in state.absent])
        found = lacking(Book(), gone, scope)
        recorded = lacking(self.book(state, scope), beyond_of(state, scope), scope)
        found += [one for one in recorded if one.why in RECORDED and is_below(one, state.high)]
        return verdict_of(state, found)

    def certificate(self, state: State, scope: Scope) -> Certificate:
        """Say of everything in scope whether it is held, and where not, why."""
        bounds = Bounds(
            snapshot_id=state.index.snapshot_id or 0,
            seam=state.seam,
            high=state.high,
            log_ends=state.log_ends,
            log_is_known=state.log_is_known,
        )
        return certify(self.book(state, scope), beyond_of(state, scope), scope, bounds)

    def book(self, state: State, scope: Scope) -> Book:
        ledger = state.index.ledger
        if id(ledger) not in self._kept:
            self._kept[id(ledger)] = LedgerBooks(ledger)
            while len(self._kept) > KEPT_LEDGERS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(id(ledger))
        return self._kept[id(ledger)].book(scope)


def verdict_of(state: State, found: list[Finding]) -> Verdict:
    """Judge by what was found; an answer that is not complete always says why."""
    if not found and not state.log_is_known:
        found = [Finding(Why.NOT_PROVABLE, lacking=True, detail=NOT_KNOWN_YET)]
    return Verdict(not found, tuple(found))


def beyond_of(state: State, scope: Scope, ceiling: Offsets | None = None) -> Beyond:
    """Gather what a state knows beside its ledger."""
    return Beyond(
        held=tail_ids(state.tail, scope, ceiling),
        kept=state.tail.kept,
        absent=[absent(missing) for missing in state.absent],
        rejected=[(at, dead) for at, found in state.undecoded.items() for dead in found],
        unnumbered=any_unnumbered(state, scope),
    )


def lacking_below(book: Book, state: State, scope: Scope, bound: Bound) -> list[Finding]:
    beyond = beyond_of(state, scope, bound.ceiling)
    earlier = without(book, bound.later or EMPTY_COVERAGE)
    found = [each for each in lacking(earlier, beyond, scope) if is_below(each, bound.ceiling)]
    if bound.later is None:
        found.append(Finding(Why.NOT_PROVABLE, lacking=True, detail=SINCE_THEN))
    return found


def is_below(finding: Finding, ceiling: Offsets) -> bool:
    if finding.position is None or finding.offsets is None:
        return True
    return finding.offsets.start < offset_at(ceiling, *finding.position)


def absent(missing: MissingRange) -> Absent:
    return Absent(
        TopicPartition(missing.topic, missing.partition),
        OffsetRange(missing.start, missing.end),
        Why(missing.reason),
    )


def tail_ids(tail: Tail, scope: Scope, ceiling: Offsets | None = None) -> Mapping[Series, Held]:
    """Return the ids that the tail holds in scope, those below a ceiling where there is one."""
    chunks = tail.answering
    if ceiling is not None and any(reaches_past(chunk, ceiling) for chunk in chunks):
        parts = (ids_below(chunk, scope, ceiling) for chunk in chunks)
        below = reduce(union, parts, EMPTY_COVERAGE)
        return {s: held for s, held in below.items() if scope.covers(s)}
    if not scope.symbol:
        return {s: held for s, held in tail.ids.items() if scope.covers(s)}
    # Looked up by name: there may be thousands of symbols, and numberings are few.
    numberings = frozenset[Numbering]().union(*{chunk.numberings for chunk in chunks})
    names = (Series(n.exchange, n.asset_class, scope.symbol, n.epoch) for n in numberings)
    return {s: tail.ids[s] for s in names if s in tail.ids and scope.covers(s)}


def ids_below(chunk: Chunk, scope: Scope, ceiling: Offsets) -> Coverage:
    if not reaches_past(chunk, ceiling):
        return chunk.claims
    start, stop = chunk.slices.get(scope.symbol, (0, 0)) if scope.symbol else (0, chunk.rows)
    below = pa.array(~at_or_past(chunk, ceiling)[start:stop])
    return claims_of(chunk.batch.slice(start, stop - start).filter(below))


def any_unnumbered(state: State, scope: Scope) -> bool:
    """Say whether rows in scope may carry no id of the exchange."""
    tail = [chunk.unnumbered for chunk in state.tail.answering if chunk.unnumbered]
    if any(not scope.symbol or scope.symbol in symbols for symbols in tail):
        return True
    return any(
        file.time_min_us < scope.end_us
        and file.time_max_us >= scope.start_us
        and (not scope.symbol or file.may_hold(scope.symbol))
        for file in state.index.unnumbered
        if not scope.symbol or file.bucket == bucket_of(scope.symbol)
    )


def passes(seam: Offsets, ceiling: Offsets, symbol: str) -> bool:
    """Say whether the table may have rows of a symbol at or past the ceiling."""
    scope = Scope(symbol)
    return any(
        scope.concerns(TopicPartition(topic, partition))
        for topic, partition, _ in ahead(seam, ceiling)
    )
