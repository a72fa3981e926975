"""The queries: which state answers, in which pool, page by page."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from libs.lake.completeness.scope import Scope
from libs.lake.files.index import SnapshotIndex
from libs.lake.ledger.claims import KEYS, claims_of
from libs.lake.ledger.coverage import EMPTY_COVERAGE, Series
from libs.market.clock import Clock, SystemClock
from libs.market.errors import NotFoundError, UnavailableError
from services.query.added import answered
from services.query.admission import Admission, Asked
from services.query.as_of import offsets_as_of
from services.query.asked import Order, Selection
from services.query.completeness.certifying import Bound, any_unnumbered, passes
from services.query.cost import cost_of, cost_of_bars, cost_of_footers, span_us
from services.query.known import knows, unknown
from services.query.pages import PageToken, read_token
from services.query.reading.bars import BarsAsked, newest_bars
from services.query.reading.engine import Pool
from services.query.reading.rows import (
    Listing,
    answered_by_tail,
    band_rows,
    file_rows,
    files_of,
    first_rows,
    in_order,
    key_of,
    scan,
    tail_rows,
)
from services.query.requests import At, PageAsked
from services.query.snapshots import index_at, named, table_of
from services.query.state import Board, State
from services.query.symbols import Activities, FileSymbols

# A page of so few rows that the tail has is answered at once: a thread costs more than the work.
MOST_INLINE_ROWS = 128
MOST_POINT_SPAN_US = 2 * 86_400_000_000
KEPT_INDEXES = 16
FOLLOW_PAUSE_S = 0.01
WAIT_FOR_STATE_S = 5.0
# Some 0.3 s of reading, to know which ids were brought later than a bound in the past.
MOST_LATER_ROWS = 5_000_000
NOTHING_NAMED = Selection()


@dataclass(frozen=True, slots=True)
class Page:
    rows: pa.Table
    listing: Listing
    state: State
    next_page: Callable[[int], PageToken]
    more: bool
    # The token says that nothing of the whole question was missing at its first page.
    whole: bool


class Queries:
    """Answers from published states; holds no state of its own but caches of immutable things."""

    def __init__(
        self,
        board: Board,
        points: Pool,
        scans: Pool,
        admission: Admission,
        clock: Clock | None = None,
        catalog_problem: Callable[[], str] = lambda: "",
    ) -> None:
        self._board = board
        self._clock = clock or SystemClock()
        self._points = points
        self._scans = scans
        self._admission = admission
        self._catalog_problem = catalog_problem
        self._symbols = FileSymbols()
        self._indexes: OrderedDict[int, SnapshotIndex] = OrderedDict()

    def admit(self, call: str) -> None:
        """Let a call in that reads no rows and names no symbol."""
        self._admission.enter(Asked(call))

    async def page(self, asked: PageAsked, token_text: str) -> Page:
        """Return a page and what its next one needs to know.

        Raises:
            InvalidError: the token is garbage or of another query.
            UnavailableError: this service has not read as far as the page before.
        """
        admitted = self._enter("ListTrades", asked.listing.wanted)
        token = read_token(token_text, asked.query_hash, PageToken)
        state = await self._state_for(asked.at, token)
        listing = answered(asked.listing, state)
        if token is not None:
            listing = replace(listing, after=token.last_key)
        if token is not None or asked.at.as_of_us is not None:
            listing = replace(listing, wanted=replace(listing.wanted, ceiling=state.high))
        self._admission.weigh(admitted, lambda: cost_of(state, listing, asked.rows + 1))
        rows = await self._first_rows(state, listing, asked.rows + 1)
        shown = rows.slice(0, asked.rows)

        def next_page(last_row: int) -> PageToken:
            return PageToken.after(asked.query_hash, state.high, key_of(shown, last_row))

        more, whole = rows.num_rows > asked.rows, token is not None and token.whole
        return Page(shown, listing, state, next_page, more=more, whole=whole)

    async def bands(
        self, listing: Listing, at: At, most_rows: int | None = None
    ) -> tuple[State, Listing, AsyncIterator[pa.Table]]:
        """Return the state, its columns and, band by band, every row; all of one state.

        `most_rows` is how many the caller is going to take.
        """
        admitted = self._enter("ReadTrades", listing.wanted)
        state = await self._state_for(at, None)
        listing = answered(listing, state)
        if at.as_of_us is not None:
            listing = replace(listing, wanted=replace(listing.wanted, ceiling=state.high))
        self._admission.weigh(admitted, lambda: cost_of(state, listing, most_rows))
        return state, listing, self._read_bands(state, listing)

    async def bars(self, asked: BarsAsked, at: At) -> tuple[State, pa.Table]:
        short = span_us(asked) <= MOST_POINT_SPAN_US
        admitted = self._enter("GetBars", asked.wanted)
        state = await self._state_for(at, None)
        if at.as_of_us is not None:
            asked = replace(asked, wanted=replace(asked.wanted, ceiling=state.high))
        self._admission.weigh(admitted, lambda: cost_of_bars(state, asked))
        pool = self._points if short else self._scans
        return state, await pool.run(lambda reader: newest_bars(state, asked, reader))

    async def symbols(self) -> tuple[State, Activities]:
        admitted = self._enter("ListSymbols", NOTHING_NAMED)
        state = self._board.state
        self._admission.weigh(admitted, lambda: cost_of_footers(state))
        return await self._known_symbols(state)

    async def _known_symbols(self, state: State) -> tuple[State, Activities]:
        return state, await self._scans.run(lambda reader: self._symbols.of(state, reader))

    def _enter(self, call: str, wanted: Selection) -> Asked:
        asked = Asked(call, wanted.symbol, wanted.exchange)
        self._admission.enter(asked)
        return asked

    async def bound_of(self, state: State, wanted: Selection) -> Bound | None:
        """Return an answer's upper bound with what the table has past it, None without one.

        Of all symbols, or of very many rows, what is past it is not looked up.

        Raises:
            ShortOfMemoryError: looking it up would read more than the level allows.
        """
        ceiling = wanted.ceiling
        if ceiling is None:
            return None
        if not passes(state.seam, ceiling, wanted.symbol):
            return Bound(ceiling, EMPTY_COVERAGE)
        later = Selection(symbol=wanted.symbol, exchange=wanted.exchange, floor=ceiling)
        listing = Listing(later, tuple(KEYS), Order.OLDEST_FIRST)
        files = files_of(state, listing)
        if not wanted.symbol or sum(file.rows for file in files) > MOST_LATER_ROWS:
            return Bound(ceiling, None)
        if not files:
            return Bound(ceiling, EMPTY_COVERAGE)
        asked = Asked("LaterIds", wanted.symbol, wanted.exchange)
        self._admission.weigh(asked, lambda: cost_of(state, listing))
        return Bound(
            ceiling,
            await self._scans.run(
                lambda reader: claims_of(file_rows(state, listing, files, reader))
            ),
        )

    async def state_knowing(self, scope: Scope) -> State:
        """Return the newest state, in which something is known of the symbol.

        Raises:
            NotFoundError: nothing is.
        """
        asked = Asked("CheckCompleteness", scope.symbol, scope.exchange)
        self._admission.enter(asked)
        state = self._board.state
        if not knows(state, scope) and not await self._has_unnumbered(state, scope, asked):
            raise unknown(scope)
        return state

    async def _has_unnumbered(self, state: State, scope: Scope, asked: Asked) -> bool:
        """Say whether there are trades without an id; of nearly all symbols the index tells."""
        if not any_unnumbered(state, Scope(scope.symbol, scope.exchange)):
            return False
        self._admission.weigh(asked, lambda: cost_of_footers(state))
        _, found = await self._known_symbols(state)
        return any(scope.covers(Series(*name, epoch=0)) for name in found)

    async def follow(self, wanted: Selection, last: int) -> AsyncIterator[tuple[State, pa.Table]]:
        """Yield the last rows, none where none are asked for, then new ones as they come.

        Each comes once; what the state that comes with them lacks is left out for good.
        """
        admitted = self._enter("FollowTrades", wanted)
        state = self._board.state
        newest = answered(Listing(wanted, (), Order.NEWEST_FIRST), state)
        self._admission.weigh(admitted, lambda: cost_of(state, newest, last))
        rows = await self._first_rows(state, newest, last)
        yield state, rows.take(pa.array(range(rows.num_rows - 1, -1, -1), pa.int64()))
        while True:
            await asyncio.sleep(FOLLOW_PAUSE_S)
            seen = state.high
            state = await self._board.changed(state)
            # What was imported is no new trade: of its topics there is no tail.
            imported = {t: at for t, at in state.seam.items() if t not in state.log_ends}
            floor = {**seen, **imported}
            listing = Listing(replace(wanted, floor=floor), (), Order.OLDEST_FIRST)
            listing = answered(listing, state)
            async for rows in self._new_rows(state, listing):
                yield state, rows

    async def _new_rows(self, state: State, listing: Listing) -> AsyncIterator[pa.Table]:
        """Yield what came since; a follower so slow that a commit passed it reads files too."""
        if files_of(state, listing):
            async for rows in self._read_bands(state, listing):
                yield rows
        else:
            yield in_order(tail_rows(state, listing, None), listing, None)

    async def _first_rows(self, state: State, listing: Listing, limit: int) -> pa.Table:
        if limit <= MOST_INLINE_ROWS:
            rows = answered_by_tail(state, listing, limit)
            if rows is not None:
                return rows
        return await self._points.run(lambda reader: first_rows(state, listing, limit, reader))

    async def _read_bands(self, state: State, listing: Listing) -> AsyncIterator[pa.Table]:
        files = files_of(state, listing)
        for band in scan(state, listing):
            yield await self._scans.run(partial(band_rows, state, band, files))

    async def _state_for(self, at: At, token: PageToken | None) -> State:
        """Return the state asked for; a later page may use any that reaches its bound."""
        if token is not None:
            return await self._state_of_page(at, token)
        if at.snapshot_id is not None:
            return await self._state_at(at.snapshot_id)
        if at.as_of_us is not None:
            return await self._state_as_of(at.as_of_us)
        return self._board.state

    async def _state_of_page(self, at: At, token: PageToken) -> State:
        if at.snapshot_id is not None:
            # An expired snapshot's rows are in those after it.
            with suppress(NotFoundError):
                state = await self._state_at(at.snapshot_id)
                return state.below(token.high)
        state = await self._board.reaching(token.high, timeout_s=WAIT_FOR_STATE_S)
        past = at.as_of_us is not None
        return state.received_by(token.high) if past else state.below(token.high)

    async def _state_at(self, snapshot_id: int) -> State:
        current = self._board.state
        snapshot = named(current.table, snapshot_id)
        index = await self._index_of(current, snapshot.snapshot_id)
        return State.at_snapshot(index, current.log_ends)

    async def _state_as_of(self, time_us: int) -> State:
        """Return the head's rows that had been received by a time.

        Raises:
            UnavailableError: the catalog cannot be read: an older head knows less of that time, and
                the answer would be another one later.
        """
        if problem := self._catalog_problem():
            raise UnavailableError(f"as_of needs the newest snapshot: {problem}")
        current = self._board.state
        io, lines = table_of(current).io, current.index.ledger.lines
        now_us = self._clock.now_us()
        offsets = await self._scans.run(lambda _: offsets_as_of(io, lines, time_us, now_us))
        return current.received_by(offsets)

    async def _index_of(self, current: State, snapshot_id: int) -> SnapshotIndex:
        """Index a snapshot's files, or find the index among the last used."""
        if current.index.snapshot_id == snapshot_id:
            return current.index
        if snapshot_id not in self._indexes:
            self._indexes[snapshot_id] = await self._scans.run(
                lambda _: index_at(current, snapshot_id)
            )
        self._indexes.move_to_end(snapshot_id)
        while len(self._indexes) > KEPT_INDEXES:
            self._indexes.popitem(last=False)
        return self._indexes[snapshot_id]
