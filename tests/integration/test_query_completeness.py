"""What each answer says of its own completeness, on a real table and a tail, no log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2 as pb

from libs.degradation.level import Level
from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.ledger import Dead
from libs.lake.table.tables import bucket_of
from libs.market.errors import NotFoundError
from services.query.admission import Admission
from services.query.keeper import Committed, Keeper, Read
from services.query.queries import Queries
from services.query.reading.engine import Pool
from services.query.servicer import QueryServicer
from services.query.state import Board
from services.query.tail.chunk import chunk_of
from tests.support.clock import ManualClock
from tests.support.query import FIRST_US, engine_in, history_in, renumbered, trade_rows

BTC = "BTCUSDT"
PARTITION = bucket_of(BTC)
OTHER = next(name for name in map("X{}".format, range(1_000)) if bucket_of(name) == PARTITION)
SECOND_US = 1_000_000
# Half a minute past a full one.
START_US = FIRST_US - FIRST_US % 60_000_000 + 30_000_000
Holes = set[tuple[str, int, int]]


class World:
    """A table with a clock, and a query service's parts over it and over what was read."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(START_US)
        self.history = history_in(folder, self.clock)
        self.engine = next(engine_in(folder))
        self.board = Board()
        self.keeper = Keeper(self.board, self.clock, memory_bytes=2**30, spill_dir=folder)
        self.points, self.scans = (
            Pool(name, self.engine, workers=1, most_waiting=4) for name in ("point", "scan")
        )
        queries = Queries(
            self.board, self.points, self.scans, Admission(lambda: Level.NORMAL), self.clock
        )
        self.service: Any = QueryServicer(
            queries,
            self.board,
            self.keeper,
            level=lambda: Level.NORMAL,
            catalog_problem=lambda: "",
            log_problem=lambda: "",
            clock=self.clock,
        )
        self.end = self.stored = 0
        self.waiting: list[pa.RecordBatch] = []

    def stop(self) -> None:
        self.points.close()
        self.scans.close()
        self.keeper.release()
        self.engine.close()

    async def read(self, *ids: int, symbol: str = BTC, bad: Sequence[Dead] = ()) -> None:
        """Have the tail read trades of these ids, a second apart by id; `bad` are no rows."""
        times_us = [FIRST_US + number * SECOND_US for number in ids]
        offsets = range(self.end, self.end + len(ids))
        rows = trade_rows(symbol, offsets, times_us=times_us, partition=PARTITION)
        placed = renumbered(rows, ids)
        start, self.end = self.end, self.end + len(ids) + len(bad)
        chunk = chunk_of(TRADES_BINANCE, placed) if ids else None
        undecoded = {TopicPartition(TRADES_BINANCE, PARTITION): tuple(bad)} if bad else {}
        spans, ends = {PARTITION: (start, self.end)}, {PARTITION: self.end}
        await self.keeper.handle(Read(TRADES_BINANCE, chunk, spans, ends, undecoded))
        self.waiting.append(placed)

    async def commit(self, *ids: int, symbol: str = BTC) -> None:
        """Have the tail read trades, and the table take them and what was read before."""
        await self.read(*ids, symbol=symbol)
        self.history.commit(pa.concat_batches(self.waiting), {PARTITION: (self.stored, self.end)})
        self.stored, self.waiting = self.end, []
        await self.see()

    async def see(self) -> None:
        await self.keeper.handle(Committed(self.history.index(), self.history.reload()))

    async def list(self, rows: int = 100, token: str = "", **more: Any) -> pb.ListTradesResponse:
        """List trades of BTCUSDT, oldest first."""
        request = pb.ListTradesRequest(
            filter=pb.TradeFilter(symbol=BTC),
            order=pb.ORDER_OLDEST_FIRST,
            page_size=rows,
            page_token=token,
            **more,
        )
        answer: pb.ListTradesResponse = await self.service.ListTrades(request, None)
        return answer

    async def certificate(self, symbol: str = BTC, **more: Any) -> pb.CheckCompletenessResponse:
        request = pb.CheckCompletenessRequest(symbol=symbol, **more)
        answer: pb.CheckCompletenessResponse = await self.service.CheckCompleteness(request, None)
        return answer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.see()
    yield made
    made.stop()


def holes(ranges: Sequence[pb.MissingRange]) -> Holes:
    return {(hole.reason, hole.first_id, hole.last_id) for hole in ranges}


def shown(answer: pb.ListTradesResponse) -> list[int]:
    return [trade.source_sequence for trade in answer.trades]


def at(number: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(FIRST_US + number * SECOND_US)
    return stamp


async def test_a_page_speaks_of_its_own_rows(world: World) -> None:
    """The page over the gap names it, those beside it are complete; it is so from page to page."""
    await world.commit(*range(10), *range(12, 30))
    first = await world.list(5)
    second = await world.list(10, first.next_page_token)
    third = await world.list(100, second.next_page_token)
    assert first.provenance.complete
    assert holes(second.provenance.lacks) == {("GAP", 10, 11)}
    assert (third.provenance.complete, shown(third)) == (True, list(range(17, 30)))


async def test_the_tail_closes_gaps_of_the_table(world: World) -> None:
    """An answer is complete as soon as the rows are read; the certificate says where they are."""
    await world.commit(*range(10), *range(12, 20))
    assert not (await world.list()).provenance.complete
    await world.read(10, 11)
    assert (await world.list()).provenance.complete
    told = await world.certificate()
    assert (told.complete, holes(told.holes)) == (True, {("NOT_COMMITTED", 10, 11)})
    (series,) = told.series
    assert (series.stored_ids, series.tail_ids, series.held_total) == (18, 2, 1)


async def test_what_is_healed_later_does_not_mend_a_page_begun_before(world: World) -> None:
    """Its rows end at offsets from before; in the tail, and when the table has both."""
    await world.commit(*range(10), *range(12, 20))
    first = await world.list(5)
    await world.read(10, 11)
    for later in (20, 21):
        rest = await world.list(100, first.next_page_token)
        assert shown(rest) == [*range(5, 10), *range(12, 20)]
        assert holes(rest.provenance.lacks) == {("GAP", 10, 11)}
        assert (await world.list()).provenance.complete
        await world.commit(later)


async def test_the_past_has_the_gaps_it_had(world: World) -> None:
    """As of a time before it was healed, a gap is one."""
    await world.commit(*range(10), *range(12, 20))
    world.clock.advance(60)
    await world.commit(10, 11, 20)
    world.clock.advance(120)
    past = pb.TimeTravel()
    for after_s, missing in ((30, {("GAP", 10, 11)}), (90, set())):
        past.as_of.FromMicroseconds(START_US + after_s * SECOND_US)
        answer = await world.list(at=past)
        assert holes(answer.provenance.lacks) == missing
        assert answer.provenance.complete == (not missing)


async def test_times_tell_which_gaps_concern_a_question(world: World) -> None:
    """One that lies between trades of the times asked for, in every kind of answer."""
    await world.commit(*range(10), *range(12, 20), *range(25, 30))
    for start, end, missing in ((0, 9, set()), (13, 19, set()), (11, 26, {10, 11, *range(20, 25)})):
        asked = pb.TradeFilter(symbol=BTC, start_time=at(start), end_time=at(end))
        listed = await world.service.ListTrades(pb.ListTradesRequest(filter=asked), None)
        bars = pb.GetBarsRequest(filter=asked, interval=pb.INTERVAL_1S)
        barred = await world.service.GetBars(bars, None)
        read = world.service.ReadTrades(pb.ReadTradesRequest(filter=asked), None)
        first = await anext(read)
        told = await world.certificate(start_time=at(start), end_time=at(end))
        for answer in (listed, barred, first):
            lacks = answer.provenance.lacks
            assert {n for one in lacks for n in range(one.first_id, one.last_id + 1)} == missing
            assert answer.provenance.complete == (not missing) == told.complete


async def test_a_limit_ends_what_an_answer_speaks_of(world: World) -> None:
    """The newest few are complete whatever is missing before them."""
    await world.commit(*range(10), *range(12, 20))
    for limit, complete in ((5, True), (9, False)):
        newest = pb.ReadTradesRequest(filter=pb.TradeFilter(symbol=BTC), limit=limit)
        (first,) = [answer async for answer in world.service.ReadTrades(newest, None)]
        bars = pb.GetBarsRequest(
            filter=pb.TradeFilter(symbol=BTC), interval=pb.INTERVAL_1S, limit=limit
        )
        barred = await world.service.GetBars(bars, None)
        assert (first.provenance.complete, barred.provenance.complete) == (complete, complete)


async def test_another_symbol_is_not_suspected(world: World) -> None:
    """Gaps and bad records of one symbol leave the others complete; one of no key leaves none."""
    await world.commit(*range(5), *range(7, 9))
    await world.commit(*range(100, 105), symbol=OTHER)
    bad = Dead(world.end, world.end + 1, BTC, "UNDECODABLE", START_US)
    await world.read(bad=[bad])
    status = await world.service.GetStatus(pb.GetStatusRequest(), None)
    assert (status.provenance.complete, status.provenance.lacks_total) == (False, 2)
    other = await world.service.ListTrades(
        pb.ListTradesRequest(filter=pb.TradeFilter(symbol=OTHER)), None
    )
    assert other.provenance.complete


async def test_trades_without_an_id_are_not_provable(world: World) -> None:
    """In the tail and in the table; nobody says complete of them."""
    rows = trade_rows(BTC, range(5), partition=PARTITION)
    unnumbered = rows.set_column(4, rows.schema.field(4), pa.nulls(5, pa.int64()))
    assert rows.schema.names[4] == "source_sequence"
    spans, ends = {PARTITION: (0, 5)}, {PARTITION: 5}
    chunk = chunk_of(TRADES_BINANCE, unnumbered)
    await world.keeper.handle(Read(TRADES_BINANCE, chunk, spans, ends))
    for committed in (False, True):
        if committed:
            world.history.commit(unnumbered, spans)
            await world.see()
        answer = await world.list()
        assert (len(answer.trades), answer.provenance.complete) == (5, False)
        assert [lack.reason for lack in answer.provenance.lacks] == ["NOT_PROVABLE"]
        assert [hole.reason for hole in (await world.certificate()).holes] == ["NOT_PROVABLE"]


async def test_holes_come_page_by_page(world: World) -> None:
    """Put together they are all of them, each once, whatever is committed in between."""
    await world.commit(*range(0, 40, 2))
    found: list[pb.MissingRange] = []
    token = ""
    while True:
        page = await world.certificate(page_size=3, page_token=token)
        found += page.holes
        assert page.holes_total == 19
        if not page.next_page_token:
            break
        token = page.next_page_token
        await world.commit(len(found), symbol=OTHER)
    assert [hole.first_id for hole in found] == list(range(1, 39, 2))


async def test_ids_asked_for_must_be_held(world: World) -> None:
    """Also those before the first and past the last one."""
    await world.commit(*range(10, 20))
    told = await world.certificate(first_id=5, last_id=22)
    assert holes(told.holes) == {("GAP", 5, 9), ("GAP", 20, 22)}
    assert (await world.certificate(first_id=12, last_id=15)).complete


async def test_a_symbol_nobody_traded_is_not_found(world: World) -> None:
    """Neither in the table nor in the tail."""
    await world.commit(1, 2)
    with pytest.raises(NotFoundError):
        await world.certificate("NOSUCHTHING")
    with pytest.raises(NotFoundError):
        await world.certificate(exchange="KRAKEN")
