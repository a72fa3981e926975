"""What had been received by a time is answered alike for ever: asked of a real table, no log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.table.update import RemoveSnapshotsUpdate

from libs.degradation.level import Level
from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.prepared import Kind
from libs.lake.maintenance.rewriting import Pace
from libs.lake.maintenance.upkeep import Maintenance, MaintenanceOptions
from libs.lake.table.tables import TRADES, bucket_of
from libs.market.errors import InvalidError, NotFoundError, UnavailableError
from services.query.admission import Admission
from services.query.asked import ANSWER_COLUMNS, Order, Selection
from services.query.keeper import Committed, Keeper, Read
from services.query.queries import Queries
from services.query.reading.bars import BarsAsked
from services.query.reading.engine import Pool
from services.query.reading.rows import Listing
from services.query.requests import At, PageAsked
from services.query.state import Board
from services.query.tail.chunk import chunk_of
from tests.support.clock import ManualClock
from tests.support.query import FIRST_US, History, engine_in, history_in, renumbered, trade_rows

SYMBOL, LOW = "BTCUSDT", "PEPEUSDT"
PARTITION = bucket_of(SYMBOL)
MINUTE_S = 60
# Half a minute past a full one.
START_US = FIRST_US - FIRST_US % 60_000_000 + 30_000_000


class World:
    """A table with a clock, and a query service's parts over it and over what it has read."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(START_US)
        self.history: History = history_in(folder, self.clock)
        self.engine = next(engine_in(folder))
        self.start()

    def start(self) -> None:
        self.catalog_problem = ""
        self.board = Board()
        self.keeper = Keeper(
            self.board, self.clock, memory_bytes=2**30, spill_dir=self.history.folder
        )
        self.points = Pool("point", self.engine, workers=1, most_waiting=4)
        self.scans = Pool("scan", self.engine, workers=1, most_waiting=4)
        self.queries = Queries(
            self.board,
            self.points,
            self.scans,
            Admission(lambda: Level.NORMAL),
            self.clock,
            catalog_problem=lambda: self.catalog_problem,
        )

    def stop(self) -> None:
        self.points.close()
        self.scans.close()
        self.keeper.release()
        self.engine.close()

    async def see_head(self) -> None:
        await self.keeper.handle(Committed(self.history.index(), self.history.reload()))

    async def read(self, *batches: pa.RecordBatch) -> None:
        """Have the tail read rows that follow each other."""
        offsets = [at for batch in batches for at in batch["kafka_offset"].to_pylist()]
        span = {PARTITION: (min(offsets), max(offsets) + 1)}
        chunk = chunk_of(TRADES_BINANCE, pa.concat_batches(batches))
        ends = {PARTITION: span[PARTITION][1]}
        await self.keeper.handle(Read(TRADES_BINANCE, chunk, span, ends))

    async def commit(
        self, batch: pa.RecordBatch, start: int, end: int, *, shed: tuple[str, ...] = ()
    ) -> None:
        self.history.commit(batch, {PARTITION: (start, end)}, shed=shed)
        await self.see_head()

    async def as_of(self, time_us: int, *, page_size: int = 7) -> list[tuple[str, int]]:
        """Page through everything received by then; each answer is complete."""
        listing = Listing(Selection(), ANSWER_COLUMNS, Order.OLDEST_FIRST)
        asked = PageAsked(listing, page_size, b"hash", At(as_of_us=time_us))
        token, found = "", []
        while True:
            page = await self.queries.page(asked, token)
            assert not page.state.absent
            rows = page.rows.select(["symbol", "kafka_offset"]).to_pylist()
            found += [(row["symbol"], row["kafka_offset"]) for row in rows]
            if not page.more:
                return found
            token = page.next_page(page.rows.num_rows - 1).encode()

    async def trades_in_bars(self, time_us: int) -> int:
        asked = BarsAsked(Selection(symbol=SYMBOL), 60_000_000, 1_000)
        _, bars = await self.queries.bars(asked, At(as_of_us=time_us))
        return int(sum(bars["trades"].to_pylist()))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.stop()


def rows(start: int, end: int) -> list[pa.RecordBatch]:
    """Return rows of two symbols of one partition, taking turns; ids follow offsets."""
    return [
        trade_rows((SYMBOL, LOW)[at % 2], [at], partition=PARTITION) for at in range(start, end)
    ]


async def test_the_same_time_is_answered_alike_for_ever(world: World) -> None:
    """Whatever is committed, shed, backfilled, compacted or expired meanwhile, also restarted."""
    await world.see_head()
    await world.read(*rows(0, 10))
    await world.commit(pa.concat_batches(rows(0, 10)), 0, 10)
    world.clock.advance(MINUTE_S)
    await world.read(*rows(10, 20))
    await world.commit(pa.concat_batches(rows(10, 20)), 10, 20, shed=(LOW,))
    world.clock.advance(MINUTE_S)
    first_us, second_us = START_US + 30_000_000, START_US + 90_000_000
    expected = {first_us: received(0, 10), second_us: received(0, 20)}

    async def check() -> None:
        for time_us, wanted in expected.items():
            assert await world.as_of(time_us) == wanted
            counted = sum(symbol == SYMBOL for symbol, _ in wanted)
            assert await world.trades_in_bars(time_us) == counted

    await check()
    await world.read(*rows(20, 30))
    await check()
    await world.commit(pa.concat_batches(rows(20, 30)), 20, 30)
    await check()
    again = renumbered(trade_rows(SYMBOL, range(30, 33), partition=PARTITION), [0, 2, 4])
    await world.read(again)
    await check()
    backfill(world, range(11, 20, 2))
    await world.see_head()
    await check()
    compact(world)
    await world.see_head()
    await check()
    world.clock.advance(MINUTE_S)
    expire(world)
    await world.see_head()
    await check()
    world.stop()
    world.engine = next(engine_in(world.history.folder))
    world.start()
    await world.see_head()
    await check()


async def test_a_catalog_that_cannot_be_read_answers_no_time(world: World) -> None:
    """An older head may know less of that minute: it would be another answer later."""
    await world.see_head()
    await world.read(*rows(0, 10))
    await world.commit(pa.concat_batches(rows(0, 10)), 0, 10)
    world.clock.advance(2 * MINUTE_S)
    assert await world.as_of(START_US + 30_000_000) == received(0, 10)
    world.catalog_problem = "no catalog at sqlite"
    with pytest.raises(UnavailableError, match="no catalog at sqlite"):
        await world.as_of(START_US + 30_000_000)


def received(start: int, end: int) -> list[tuple[str, int]]:
    return [((SYMBOL, LOW)[at % 2], at) for at in range(start, end)]


def backfill(world: World, offsets: range) -> None:
    late = trade_rows(LOW, offsets, partition=PARTITION)
    world.history.commit(late, {PARTITION: (10, 20)}, kind=Kind.BACKFILL)


def compact(world: World) -> None:
    keeping = Maintenance(world.history.lake, TRADES, MaintenanceOptions(), clock=world.clock)
    jobs = keeping.plan(lambda _: True, asked=True)
    assert jobs
    assert all(keeping.compact(job, Pace()).files for job in jobs)


def expire(world: World) -> None:
    table = world.history.reload()
    head = table.metadata.current_snapshot_id
    old = [s.snapshot_id for s in table.metadata.snapshots if s.snapshot_id != head]
    update = RemoveSnapshotsUpdate.model_validate({"snapshot-ids": old})
    world.history.lake.commit_table(table, (), (update,))


async def test_a_time_before_the_first_commit_names_the_earliest(world: World) -> None:
    """Also where nothing at all is committed yet."""
    await world.see_head()
    await world.read(*rows(0, 10))
    with pytest.raises(NotFoundError):
        await world.as_of(START_US)
    await world.commit(pa.concat_batches(rows(0, 10)), 0, 10)
    world.clock.advance(2 * MINUTE_S)
    with pytest.raises(NotFoundError, match="first commit is of 2024-08-08T09:00:30") as caught:
        await world.as_of(START_US)
    earliest_us = int(caught.value.facts["earliest_us"])  # type: ignore[call-overload]
    assert earliest_us == START_US + 30_000_000
    assert await world.as_of(earliest_us) == received(0, 10)


async def test_a_time_that_can_still_change_is_not_answered(world: World) -> None:
    """Neither one to come nor a minute that has only just begun."""
    await world.see_head()
    await world.read(*rows(0, 10))
    await world.commit(pa.concat_batches(rows(0, 10)), 0, 10)
    with pytest.raises(InvalidError, match="future") as caught:
        await world.as_of(START_US + 10 * 60_000_000)
    assert caught.value.field == "at.as_of"
    world.clock.advance(31)
    now_us = world.clock.now_us()
    with pytest.raises(UnavailableError, match="only just begun"):
        await world.as_of(now_us)
    world.clock.advance(MINUTE_S / 2)
    assert await world.as_of(now_us) == received(0, 10)
