"""What is missing of a symbol's trades, and why: from the ledger and what is known beside it. Pure.

Ids prove it: a gap between two held ones is missing, and where they follow each other nothing is.
Positions that were lost, dead-lettered, or shed and not kept make an answer incomplete unless ids
show that nothing of the symbol was among them. Times come from the trades around a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from libs.lake.completeness.evidence import Beyond, Book, Finding, Why, series_held
from libs.lake.completeness.positions import of_positions
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.coverage import Held, IdRange, Ids, Series, join
from libs.lake.ledger.gaps import NO_GAPS, Gap, beyond_ends

NO_ID = "trades without an id of the exchange: nobody can say whether one is missing"


def findings(book: Book, beyond: Beyond, scope: Scope) -> list[Finding]:
    """Return what there is to tell of the scope: by series and id first, then by position."""
    found = [
        finding
        for series in sorted(gapped(book, beyond, scope))
        for finding in of_series(series, book, beyond, scope)
    ]
    if beyond.unnumbered:
        found.append(Finding(Why.NOT_PROVABLE, lacking=True, detail=NO_ID))
    unbroken = not any(finding.lacking for finding in found)
    return [*found, *of_positions(book, beyond, scope, unbroken=unbroken)]


def gapped(book: Book, beyond: Beyond, scope: Scope) -> Iterable[Series]:
    """Return the series that can have gaps: nearly all of thousands have not."""
    if scope.first_id is not None or scope.last_id is not None:
        return series_held(book, beyond)
    return book.broken.union(
        series
        for series, more in beyond.held.items()
        if len(more) > 1 or not goes_on(book.series.get(series, NO_GAPS).held, more[0])
    )


def goes_on(held: Held, more: Ids) -> bool:
    """Say whether more ids make one range with what is held, which is one or none."""
    return not held or (more.first <= held[-1].last + 1 and more.last >= held[0].first - 1)


def lacking(book: Book, beyond: Beyond, scope: Scope) -> list[Finding]:
    """Return why an answer is not complete; none where nothing of the scope is missing."""
    return [finding for finding in findings(book, beyond, scope) if finding.lacking]


def of_series(series: Series, book: Book, beyond: Beyond, scope: Scope) -> Iterator[Finding]:
    """Yield the gaps in a series' ids that the scope meets."""
    known, more = book.series.get(series, NO_GAPS), beyond.held.get(series, ())
    gaps = known.with_more(more, scope.start_us, scope.end_us)
    if scope.first_id is not None or scope.last_id is not None:
        held = join(known.held, more)
        ends = beyond_ends(held, known.holes, scope.first_id, scope.last_id)
        gaps += (gap for gap in ends if gap.meets(scope.start_us, scope.end_us))
        gaps = [cut for gap in gaps if (cut := cut_to_ids(gap, scope))]
    return (of_gap(series, gap) for gap in gaps)


def cut_to_ids(gap: Gap, scope: Scope) -> Gap | None:
    first = gap.first if scope.first_id is None else max(gap.first, scope.first_id)
    last = gap.last if scope.last_id is None else min(gap.last, scope.last_id)
    return gap._replace(first=first, last=last) if first <= last else None


def of_gap(series: Series, gap: Gap) -> Finding:
    declared = gap.hole is not None
    return Finding(
        Why.VENUE if declared else Why.GAP,
        lacking=not declared,
        series=series,
        ids=IdRange(gap.first, gap.last),
        after_us=gap.after_us,
        before_us=gap.before_us,
        detail=gap.hole or "",
    )
