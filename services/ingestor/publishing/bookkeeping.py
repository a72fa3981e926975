"""From the sequence state to the book, and back at the start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from services.ingestor import measures
from services.ingestor.parsing.symbols import SymbolTable
from services.ingestor.publishing.book import Page, Pages, SymbolPage, read_book, write_book
from services.ingestor.publishing.symbol_sequence import SymbolSequence
from services.ingestor.spool.entries import IdRun

log = structlog.get_logger()

HANGS_AFTER_S = 5.0


class Bookkeeping:
    """Makes pages of the publisher's sequence state, and writes those that count."""

    def __init__(self, table: SymbolTable, states: Sequence[SymbolSequence], folder: Path) -> None:
        self._codes = table.codes
        self._symbols = table.symbols
        self._states = states
        self._folder = folder
        self._pages = Pages()
        self._book: Page = {}
        self._owed = False
        self._failing = False
        self._hangs = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="book")
        self._writing = asyncio.Lock()

    def resume(self, spooled: Iterable[IdRun], now_us: int) -> None:
        """Go on from the last process's book, and from what it left in the spool."""
        self._book = read_book(self._folder)
        for symbol, page in self._book.items():
            if symbol in self._codes:
                self._states[self._codes[symbol]].resume(
                    page.last, page.gaps, now_us, page.newest_us
                )
        for symbol, first, last in spooled:
            if symbol in self._codes:
                self._states[self._codes[symbol]].resume_run(first, last, now_us)

    def make_page(self, accepted: int) -> None:
        """Note how things stand now that the backlog has accepted so many records."""
        closed = sum(state.venue_holes for state in self._states)
        self._pages.make(accepted, closed, self._page)

    async def write_due(self, done: int) -> None:
        """Write the newest page that counts when Kafka has so many records, and all beginnings.

        What a disk did not take is written with the next call.
        """
        async with self._writing:
            due = self._pages.due(done)
            book = {**self._book, **self._beginnings(), **(due or {})}
            self._owed = self._owed or due is not None or len(book) > len(self._book)
            self._book = book
            if self._owed:
                # One thread: what a cancelled caller left to be written is written before.
                loop = asyncio.get_running_loop()
                self._owed = not await loop.run_in_executor(self._thread, self._write, book)
                self._hangs = False

    async def write_beginnings(self, done: int) -> None:
        """Write the book before first trades go on. A disk that hangs holds up one burst alone."""
        if self._hangs:
            return
        try:
            async with asyncio.timeout(HANGS_AFTER_S):
                await self.write_due(done)
        except TimeoutError:
            self._hangs = True
            log.warning("book_hangs", folder=str(self._folder))

    def _write(self, book: Page) -> bool:
        try:
            write_book(self._folder, book)
        except OSError as error:
            measures.BOOK_FAILURES.inc()
            if not self._failing:
                log.warning("book_not_written", folder=str(self._folder), because=str(error))
            self._failing = True
        else:
            self._failing = False
        return not self._failing

    def close(self) -> None:
        self._thread.shutdown()

    def _page(self) -> Page:
        by_symbol = zip(self._symbols, self._states, strict=True)
        return {
            symbol: SymbolPage(
                state.newest, tuple((gap.first, gap.last) for gap in state.gaps), state.newest_us
            )
            for symbol, state in by_symbol
            if state.newest is not None
        }

    def _beginnings(self) -> Page:
        """Of symbols that the book does not have yet: nothing is known from before their first."""
        return {
            symbol: SymbolPage(state.floor - 1)
            for symbol, state in zip(self._symbols, self._states, strict=True)
            if state.last is not None and symbol not in self._book
        }
