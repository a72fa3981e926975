"""Answers are judged by what they spoke of: a page by its rows, bars by their times."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from libs.lake.completeness.scope import Scope
from services.query.asked import Selection
from services.query.completeness.certifying import Bound, Certifier, Verdict
from services.query.queries import Page
from services.query.reading.bars import BarsAsked
from services.query.reading.rows import Listing, ints
from services.query.state import State


def judged_page(certifier: Certifier, page: Page, bound: Bound | None) -> tuple[Verdict, bool]:
    """Judge a page, and say whether nothing of the whole question is missing.

    That holds for the pages after it too: their rows are of the same offsets.
    """
    state, listing = page.state, page.listing
    scope = scope_of(listing)
    if page.whole:
        return certifier.still(state, scope), True
    verdict = certifier.verdict(state, scope, bound)
    if verdict.complete or not page.more:
        return verdict, verdict.complete
    return certifier.verdict(state, scope_of_rows(listing, page.rows), bound), False


def judged_rows(
    certifier: Certifier,
    state: State,
    listing: Listing,
    bound: Bound | None,
    shown: pa.Table | None = None,
) -> Verdict:
    """Judge all that is listed; where a limit ends it, up to the last of the rows shown."""
    scope = scope_of(listing) if shown is None else scope_of_rows(listing, shown)
    return certifier.verdict(state, scope, bound)


def judged_bars(
    certifier: Certifier, state: State, asked: BarsAsked, bars: pa.Table, bound: Bound | None
) -> Verdict:
    """Judge bars by their times."""
    return certifier.verdict(state, scope_of_bars(asked, bars), bound)


def judged_since(
    certifier: Certifier, state: State, wanted: Selection, since_us: int | None
) -> Verdict:
    """Judge what is followed, from the first row shown on."""
    scope = Scope(wanted.symbol, wanted.exchange)
    return certifier.verdict(
        state, scope if since_us is None else replace(scope, start_us=since_us)
    )


def earliest_us(rows: pa.Table) -> int | None:
    return int(ints(rows, "timestamp").min()) if rows.num_rows else None


def scope_of(listing: Listing) -> Scope:
    """Return all that is listed, what pages before have shown excepted."""
    wanted = listing.wanted
    return Scope(wanted.symbol, wanted.exchange, *listing.times)


def scope_of_rows(listing: Listing, shown: pa.Table) -> Scope:
    """Return what is listed up to the last of the rows shown, where more follow."""
    scope = scope_of(listing)
    if not shown.num_rows:
        return scope
    last_us = int(ints(shown.slice(shown.num_rows - 1), "timestamp")[0])
    return (
        replace(scope, start_us=last_us) if listing.newest else replace(scope, end_us=last_us + 1)
    )


def scope_of_bars(asked: BarsAsked, bars: pa.Table) -> Scope:
    """Return the times of the bars, and all that was asked for where there are no more of them."""
    wanted = asked.wanted
    scope = Scope(wanted.symbol, wanted.exchange, *wanted.times)
    if bars.num_rows < asked.limit:
        return scope
    return replace(scope, start_us=max(scope.start_us, bars["time_us"][0].as_py()))
