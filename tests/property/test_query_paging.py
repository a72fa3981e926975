"""Pages put together are the naive sorted list, whatever happens between them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from libs.degradation.level import Level
from libs.kafka.topics import TRADES_BINANCE
from libs.lake.table.tables import bucket_of
from libs.market.clock import SystemClock
from services.query.admission import Admission
from services.query.asked import Order, RowKey, Selection
from services.query.keeper import Committed, Keeper, Read, Target
from services.query.queries import Queries
from services.query.reading.engine import Engine, Pool
from services.query.reading.rows import Listing, key_of
from services.query.requests import NOW, PageAsked
from services.query.state import Board
from services.query.tail.chunk import chunk_of
from tests.support.query import FIRST_US, History, history_in, trade_rows

SYMBOLS = {symbol: bucket_of(symbol) for symbol in ("BTCUSDT", "ETHUSDT")}
COLUMNS = ("symbol", "price", "vendor_data", "message_id")

# Few distinct times, so that many rows differ by their offset alone.
TIMES = st.lists(st.integers(0, 12), min_size=1, max_size=40)
STEPS = st.lists(st.sampled_from(["nothing", "read", "commit", "restart"]), max_size=12)


class World:
    """A log, a table and a query service's parts, driven step by step."""

    def __init__(self, history: History, engine: Engine, times: dict[str, list[int]]) -> None:
        self.history = history
        self.engine = engine
        self.log = {
            symbol: trade_rows(
                symbol,
                range(len(at)),
                times_us=[FIRST_US + t for t in at],
                enriched=bool(len(at) % 2),
            )
            for symbol, at in times.items()
        }
        self.read = dict.fromkeys(SYMBOLS, 0)
        self.committed = dict.fromkeys(SYMBOLS, 0)

    async def start(self) -> None:
        self.board = Board()
        self.keeper = Keeper(
            self.board, SystemClock(), memory_bytes=2**30, spill_dir=self.history.folder
        )
        self.points = Pool("point", self.engine, workers=1, most_waiting=4)
        self.scans = Pool("scan", self.engine, workers=1, most_waiting=4)
        self.queries = Queries(self.board, self.points, self.scans, Admission(lambda: Level.NORMAL))
        await self.see_head()
        await self.begin()
        reached, self.read = self.read, dict(self.committed)
        for symbol, at in reached.items():
            await self.read_to(symbol, at)

    async def begin(self) -> None:
        """Tell where the log ends, as the tail reader does before it reads."""
        ends = {SYMBOLS[symbol]: rows.num_rows for symbol, rows in self.log.items()}
        await self.keeper.handle(Read(TRADES_BINANCE, None, {}, ends))

    async def stop(self) -> None:
        self.points.close()
        self.scans.close()
        self.keeper.release()

    async def step(self, name: str) -> None:
        if name == "restart":
            await self.stop()
            await self.start()
        for symbol in SYMBOLS:
            if name == "read":
                await self.read_to(symbol, self.read[symbol] + 7)
            if name == "commit":
                await self.commit(symbol)

    async def read_to(self, symbol: str, end: int) -> None:
        start, end = self.read[symbol], min(end, self.log[symbol].num_rows)
        if start >= end:
            return
        batch = self.log[symbol].slice(start, end - start)
        chunk = chunk_of(batch["kafka_topic"][0].as_py(), batch)
        await self.keeper.handle(Read(chunk.topic, chunk, {SYMBOLS[symbol]: (start, end)}, {}))
        self.read[symbol] = end

    async def commit(self, symbol: str) -> None:
        """Commit a part of what was read, and now and then a row more than that."""
        start = self.committed[symbol]
        end = min(start + 5, self.log[symbol].num_rows)
        if start < end:
            rows = self.log[symbol].slice(start, end - start)
            self.history.commit(rows, {SYMBOLS[symbol]: (start, end)})
            self.committed[symbol] = end
            await self.see_head()

    async def see_head(self) -> None:
        table = self.history.reload()
        await self.keeper.handle(Committed(self.history.index(), table))
        await self.keeper.handle(Target({}))

    async def pages(self, listing: Listing, size: int, steps: list[str]) -> list[RowKey]:
        asked = PageAsked(listing, size, b"hash", NOW)
        token, found, waiting = "", [], list(steps)
        while True:
            page = await self.queries.page(asked, token)
            assert page.state.log_is_known
            assert not page.state.absent
            found += [key_of(page.rows, row) for row in range(page.rows.num_rows)]
            if not page.more:
                return found
            token = page.next_page(page.rows.num_rows - 1).encode()
            await self.step(waiting.pop(0) if waiting else "nothing")


@contextmanager
def world(times: dict[str, list[int]]) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        history = history_in(folder)
        engine = Engine(threads=1, memory_limit_bytes=2**28, spill_dir=folder / "spill")
        with closing(history.lake), closing(engine):
            yield World(history, engine, times)


def naive(rows: dict[str, pa.RecordBatch], ends: dict[str, int], listing: Listing) -> list[RowKey]:
    """Sort every row below the ends in plain Python."""
    keys = [
        key_of(pa.Table.from_batches([batch]), at)
        for symbol, batch in rows.items()
        if listing.wanted.symbol in ("", symbol)
        for at in range(min(ends[symbol], batch.num_rows))
    ]
    return sorted(keys, reverse=listing.newest)


@settings(max_examples=20, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    TIMES,
    TIMES,
    STEPS,
    STEPS,
    st.integers(1, 6),
    st.sampled_from(Order),
    st.sampled_from(["", *SYMBOLS]),
)
def test_pages_are_the_naive_list(
    btc: list[int],
    eth: list[int],
    before: list[str],
    between: list[str],
    size: int,
    order: Order,
    symbol: str,
) -> None:
    """Commits, new rows and restarts between pages neither repeat nor hide a row."""

    async def run() -> None:
        with world({"BTCUSDT": btc, "ETHUSDT": eth}) as there:
            await there.start()
            try:
                for name in before:
                    await there.step(name)
                reach = {s: max(there.read[s], there.committed[s]) for s in SYMBOLS}
                listing = Listing(Selection(symbol=symbol), COLUMNS, order)
                found = await there.pages(listing, size, between)
                assert found == naive(there.log, reach, listing)
            finally:
                await there.stop()

    asyncio.run(run())
