"""What an exchange withheld, sent twice or contradicted is what a certificate names, no more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.kafka.client import start_producer, stop_client
from libs.kafka.topics import TRADES_BINANCE
from libs.lake.table.tables import bucket_of
from libs.market.trade import AssetClass, Origin, Side
from libs.rpc.client import call, channel
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import encode_trades, proto_batch, register_trades
from tests.support.polling import eventually
from tests.support.realdata import binance_recordings, needs_realdata
from tests.support.whole import all_arrived, whole_k2
from tools.cli.parts.fleet import Fleet
from tools.cli.session.source import Source
from tools.simulator import truth
from tools.simulator.faults import Injected

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

WINDOWS = 24
SKIPPED = (3, 1, 40, 7)
SKIPPED_AT = (400, 1_100, 1_300, 2_600)
FAULTS = (
    *(f"skip:at={at},count={count}" for at, count in zip(SKIPPED_AT, SKIPPED, strict=True)),
    *(f"duplicate:at={at},count={count}" for at, count in ((700, 9), (2_000, 30))),
)


@dataclass(frozen=True)
class Told:
    """A session as the exchange made it, and what it did wrong on purpose."""

    times_us: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    skipped: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    doubled: Counter[str] = field(default_factory=Counter)

    def missing(self, symbol: str, start_us: int, end_us: int) -> set[int]:
        """Return the ids withheld that may be of a time, by the trades around them."""
        times = self.times_us[symbol]
        held = sorted(times.keys() - self.skipped[symbol])
        return {
            number
            for before, after in pairwise(held)
            if times[before] < end_us and times[after] >= start_us
            for number in range(before + 1, after)
        }

    def windows(self, symbol: str) -> Iterator[tuple[int, int]]:
        """Yield stretches of the session, of about as many trades each, and all of it."""
        times = sorted(self.times_us[symbol].values())
        edges = times[:: max(1, len(times) // WINDOWS)]
        yield from pairwise(edges)
        yield times[0], times[-1] + 1


@needs_realdata
async def test_a_certificate_of_a_recorded_session_names_what_was_injected(tmp_path: Path) -> None:
    """Ids withheld, trades doubled and contradicted: exactly these, and each answer says so."""
    source = Source(recordings=tuple(binance_recordings()), pace="300", faults=FAULTS)
    await check_certificates(source, tmp_path)


async def test_a_certificate_of_a_generated_session_names_what_was_injected(
    tmp_path: Path,
) -> None:
    """The same without recorded data, and with more symbols."""
    source = Source(
        seed=3, symbols=6, duration_s=12, trades_per_second=300, pace="5", faults=FAULTS
    )
    await check_certificates(source, tmp_path)


async def check_certificates(source: Source, folder: Path) -> None:
    trades = truth.columns(source.session())
    async with (
        whole_k2(folder, source, {"K2_INGESTOR_HEAL": "false"}) as fleet,
        channel(fleet.door("query").grpc or "") as connection,
    ):
        service = QueryServiceStub(connection)
        await all_arrived(fleet, len(trades.symbol) - sum(SKIPPED))
        told = await what_was_told(fleet, trades)
        symbol = max(told.times_us, key=lambda each: len(told.times_us[each]))
        offsets = await contradict(fleet, symbol, told)
        await all_stored(service, list(told.times_us), symbol, len(offsets))
        for each in told.times_us:
            certificate = await certified(service, each)
            assert ids(certificate, "GAP") == told.skipped[each]
            assert sum(one.duplicates for one in certificate.series) == told.doubled[each]
            assert positions(certificate) == (offsets if each == symbol else set())
            assert {hole.reason for hole in certificate.holes} <= {"GAP", "DEAD_LETTER"}
            await check_answers(service, each, told)


async def what_was_told(fleet: Fleet, trades: truth.TradeColumns) -> Told:
    """Ask the exchange what it withheld and what it sent twice."""
    url = f"http://{fleet.door('simulator').extra['http']}/control/faults"
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        done = msgspec.json.decode(await answer.read(), type=dict[str, list[object]])
    told = Told()
    for symbol, number, time_us in zip(trades.symbol, trades.trade_id, trades.time_us, strict=True):
        told.times_us[symbol][number] = time_us
    for injected in msgspec.convert(done["injected"], list[Injected]):
        for symbol, number in injected.trades:
            if injected.kind == "skip":
                told.skipped[symbol].add(number)
            else:
                told.doubled[symbol] += 1
    assert sum(map(len, told.skipped.values())) == sum(SKIPPED)
    return told


async def contradict(fleet: Fleet, symbol: str, told: Told) -> set[int]:
    """Send trades that are held with another price, and return their offsets."""
    schema_id = register_trades(SchemaRegistry(fleet.layout.data / "schemas.json"), TRADES_BINANCE)
    held = sorted(told.times_us[symbol].keys() - told.skipped[symbol])[10:500:50]
    producer: AIOKafkaProducer = await start_producer(fleet.bootstrap, "test-completeness")
    try:
        sent = [
            await producer.send_and_wait(
                TRADES_BINANCE,
                another_price(schema_id, symbol, number, told.times_us[symbol][number]),
                key=symbol.encode(),
                partition=bucket_of(symbol),
            )
            for number in held
        ]
    finally:
        await stop_client(producer)
    return {record.offset for record in sent}


def another_price(schema_id: int, symbol: str, number: int, time_us: int) -> bytes:
    columns: dict[str, Sequence[object]] = {
        "trade_id": [str(number)],
        "source_sequence": [number],
        "timestamp_us": [time_us],
        "ingest_timestamp_us": [time_us + 1_000],
        "price": ["0.000001"],
        "quantity": ["1"],
    }
    constants = {
        "exchange": "BINANCE",
        "asset_class": AssetClass.CRYPTO,
        "symbol": symbol,
        "currency": "USDT",
        "side": Side.BUY,
        "origin": Origin.STREAM,
    }
    (value,) = encode_trades(proto_batch(columns, constants), schema_id)
    return value


async def all_stored(
    service: QueryServiceAsyncStub, symbols: list[str], contradicted: str, dead: int
) -> None:
    """Wait until nothing is left to the tail and the dead letters are told of."""

    async def stored() -> bool:
        found = {symbol: await certified(service, symbol) for symbol in symbols}
        left = sum(series.tail_ids for each in found.values() for series in each.series)
        return left == 0 and len(positions(found[contradicted])) == dead

    await eventually(stored, 30, what="all trades committed")


async def certified(
    service: QueryServiceAsyncStub, symbol: str, start_us: int | None = None, end_us: int = 0
) -> pb.CheckCompletenessResponse:
    request = pb.CheckCompletenessRequest(symbol=symbol, page_size=10_000)
    if start_us is not None:
        request.start_time.FromMicroseconds(start_us)
        request.end_time.FromMicroseconds(end_us)
    return await call(service.CheckCompleteness, request)


def ids(certificate: pb.CheckCompletenessResponse, reason: str) -> set[int]:
    holes = (hole for hole in certificate.holes if hole.reason == reason)
    return {number for hole in holes for number in range(hole.first_id, hole.last_id + 1)}


def positions(certificate: pb.CheckCompletenessResponse) -> set[int]:
    """Return the offsets of what contradicts a stored trade."""
    holes = [hole for hole in certificate.holes if hole.reason == "DEAD_LETTER"]
    assert all(hole.detail == "CONFLICT" and not hole.lacking for hole in holes)
    return {offset for hole in holes for offset in range(hole.start, hole.end)}


async def check_answers(service: QueryServiceAsyncStub, symbol: str, told: Told) -> None:
    """Ask for stretches of the session: answers say that they are complete exactly where so."""
    for start_us, end_us in told.windows(symbol):
        missing = told.missing(symbol, start_us, end_us)
        certificate = await certified(service, symbol, start_us, end_us)
        assert (ids(certificate, "GAP"), certificate.complete) == (missing, not missing)
        asked = pb.TradeFilter(symbol=symbol, start_time=stamp(start_us), end_time=stamp(end_us))
        listed = await call(
            service.ListTrades, pb.ListTradesRequest(filter=asked, page_size=10_000)
        )
        bars = await call(service.GetBars, pb.GetBarsRequest(filter=asked, interval=pb.INTERVAL_1M))
        # A page speaks of the times down to its last row.
        shown_us = listed.trades[-1].timestamp.ToMicroseconds() if listed.trades else start_us
        of_page = told.missing(symbol, shown_us if listed.next_page_token else start_us, end_us)
        for provenance, lacking in ((listed.provenance, of_page), (bars.provenance, missing)):
            assert provenance.complete == (not lacking)
            ranges = (range(lack.first_id, lack.last_id + 1) for lack in provenance.lacks)
            assert set(chain.from_iterable(ranges)) == lacking


def stamp(time_us: int) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(time_us)
    return made
