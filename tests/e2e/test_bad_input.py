"""Bad input through the whole of K2: refused with its reason, and nothing else suffers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiokafka import AIOKafkaProducer
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from k2.ingestor.v1 import ingestor_pb2, ingestor_pb2_grpc
from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.kafka.client import start_producer, stop_client
from libs.kafka.dead_letters import read
from libs.kafka.topics import TRADES_BINANCE, dead_letter_topic
from libs.lake.table.tables import bucket_of
from libs.market.trade import AssetClass, Origin, Side
from libs.rpc.client import channel
from libs.rpc.errors import DETAILS_KEY
from libs.runtime.doors import find
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import encode_trades, proto_batch, register_trades
from tests.support.asking import read_all
from tests.support.cli import Home
from tests.support.ingesting import records_of
from tests.support.polling import eventually
from tests.support.whole import all_arrived, whole_k2
from tools.cli.doors.watching import flow_of
from tools.cli.parts.fleet import Fleet
from tools.cli.session.proof import prove
from tools.cli.session.source import Source
from tools.simulator import truth
from tools.simulator.faults import MALFORMED

NEW_SYMBOL = "NEVERHEARDUSDT"
# What the exchange may send beside trades is no mistake of its.
FRAMES = [frame for frame in MALFORMED if b"surprise" not in frame]
CALL_TIMEOUT_S = 60
TIME_US = 1_767_600_000_000_000


async def test_bad_input_is_set_aside_and_nothing_else_suffers(tmp_path: Path) -> None:
    """Bad frames and bad records amid a session: every trade arrives, and each bad one waits.

    A symbol nobody has heard of is no mistake: it is stored and answered.
    """
    faults = (f"malformed:at=300,count={len(MALFORMED)}",)
    source = Source(seed=4, symbols=3, duration_s=8, trades_per_second=200, pace="2", faults=faults)
    expected = truth.expected(source.session())
    total = sum(symbol.count for symbol in expected.values())
    async with whole_k2(tmp_path, source) as fleet:
        schema_id = register_trades(
            SchemaRegistry(fleet.layout.data / "schemas.json"), TRADES_BINANCE
        )
        bad = bad_records(schema_id)
        await produced(fleet, "BTCUSDT", list(bad.values()))
        await produced(fleet, NEW_SYMBOL, [trade(schema_id, NEW_SYMBOL, "1.5")])
        await all_arrived(fleet, total + 1)
        await set_aside(fleet, len(bad) + len(FRAMES))
        proof = await prove(expected, fleet.door("query").grpc or "")
        async with channel(fleet.door("query").grpc or "") as connection:
            unheard = await read_all(QueryServiceStub(connection), NEW_SYMBOL)
        letters = await records_of(fleet.bootstrap, dead_letter_topic(TRADES_BINANCE))
    assert all(proof.answered[symbol].trades == expected[symbol] for symbol in expected)
    # What waits may be trades of before the first or after the last: that is said of their symbol.
    assert {symbol for symbol in expected if not proof.holds_for(symbol)} == {"BTCUSDT"}
    assert unheard["symbol"].to_pylist() == [NEW_SYMBOL]
    by_reason = {(dict(x.headers)["reason"].decode(), x.value) for x in letters if is_record(x.key)}
    assert by_reason == set(bad.items())
    frames = {x.value for x in letters if not is_record(x.key)}
    assert frames == set(FRAMES)
    assert all(read(x).detail for x in letters if is_record(x.key))


def bad_records(schema_id: int) -> dict[str, bytes]:
    """Give one record for each reason a record is refused."""
    return {
        "EMPTY": b"",
        "FRAMING": b"x" * 900_000,
        "UNKNOWN_SCHEMA": b"\x00" + (999_999).to_bytes(4, "big") + b"\x00abc",
        "UNDECODABLE": b"\x00" + schema_id.to_bytes(4, "big") + b"\x00\xff\xff\xff",
        "PRECISION": trade(schema_id, "BTCUSDT", "0.1234567890123"),
        "FIELD": trade(schema_id, "", "1.5"),
        "TIMESTAMP": trade(schema_id, "BTCUSDT", "1.5", timestamp_us=1),
    }


def trade(schema_id: int, symbol: str, price: str, *, timestamp_us: int = TIME_US) -> bytes:
    columns = {
        "trade_id": ["1"],
        "source_sequence": [1],
        "timestamp_us": [timestamp_us],
        "ingest_timestamp_us": [TIME_US],
        "price": [price],
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


async def produced(fleet: Fleet, symbol: str, values: Sequence[bytes]) -> None:
    producer: AIOKafkaProducer = await start_producer(fleet.bootstrap, "test-bad-input")
    try:
        for value in values:
            await producer.send_and_wait(
                TRADES_BINANCE, value, key=symbol.encode(), partition=bucket_of(symbol)
            )
    finally:
        await stop_client(producer)


async def set_aside(fleet: Fleet, count: int) -> None:
    """Wait until ingestor and writer say that they have dead-lettered so many."""

    async def told() -> bool:
        return (await flow_of(fleet.doors().values())).dead_lettered == count

    await eventually(told, 30, what=f"{count} dead letters")


def is_record(key: bytes) -> bool:
    return key.startswith(TRADES_BINANCE.encode())


BACKWARDS = pb.TradeFilter(
    symbol="BTCUSDT", start_time=Timestamp(seconds=100), end_time=Timestamp(seconds=50)
)
ONE = pb.TradeFilter(symbol="BTCUSDT")
SHUT = pb.CheckCompletenessRequest(
    symbol="A", start_time=Timestamp(seconds=100), end_time=Timestamp(seconds=50)
)
TO_COME = pb.CheckCompletenessRequest(symbol="A", start_time=Timestamp(seconds=32_503_680_000))
NO_IDS = pb.CheckCompletenessRequest(symbol="A", first_id=9, last_id=8)


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListTrades", pb.ListTradesRequest(filter=ONE, page_size=-1), "page_size"),
        ("ListTrades", pb.ListTradesRequest(filter=ONE, page_token="bad"), "page_token"),
        ("ListTrades", pb.ListTradesRequest(filter=ONE, columns=["prize"]), "columns"),
        ("ListTrades", pb.ListTradesRequest(filter=BACKWARDS), "filter.end_time"),
        ("ReadTrades", pb.ReadTradesRequest(filter=ONE, limit=-1), "limit"),
        ("ReadTrades", pb.ReadTradesRequest(filter=BACKWARDS), "filter.end_time"),
        ("FollowTrades", pb.FollowTradesRequest(last=-1), "last"),
        ("GetBars", pb.GetBarsRequest(interval=pb.INTERVAL_1M), "filter.symbol"),
        ("GetBars", pb.GetBarsRequest(filter=ONE), "interval"),
        ("GetBars", pb.GetBarsRequest(filter=ONE, interval=pb.INTERVAL_1M, limit=-1), "limit"),
        ("ListSymbols", pb.ListSymbolsRequest(page_size=-1), "page_size"),
        ("ListSnapshots", pb.ListSnapshotsRequest(page_token="bad"), "page_token"),
        ("CheckCompleteness", pb.CheckCompletenessRequest(), "symbol"),
        ("CheckCompleteness", pb.CheckCompletenessRequest(symbol="A\n"), "symbol"),
        ("CheckCompleteness", SHUT, "end_time"),
        ("CheckCompleteness", NO_IDS, "last_id"),
        ("CheckCompleteness", TO_COME, "start_time"),
        (
            "CheckCompleteness",
            pb.CheckCompletenessRequest(symbol="A", page_token="bad"),
            "page_token",
        ),
    ],
)
async def test_a_bad_field_is_named(k2_up: Home, method: str, request_: Any, field: str) -> None:
    """INVALID_ARGUMENT whose google.rpc.BadRequest has the field and says what is wrong."""
    async with channel(door(k2_up, "query")) as connection:
        violation = await refused(getattr(QueryServiceStub(connection), method), request_)
    assert (violation.field, bool(violation.description)) == (field, True)


async def test_the_ingestor_names_the_field_too(k2_up: Home) -> None:
    """A page of feeds below nothing."""
    async with channel(door(k2_up, "ingestor")) as connection:
        feeds = ingestor_pb2_grpc.IngestorServiceStub(connection).ListFeeds
        violation = await refused(feeds, ingestor_pb2.ListFeedsRequest(page_size=-1))
    assert violation.field == "page_size"


def door(home: Home, service: str) -> str:
    doors = find(home.root / "up" / "run").values()
    return next(door.grpc for door in doors if door.service == service and door.grpc)


async def refused(method: Any, request_: Any) -> error_details_pb2.BadRequest.FieldViolation:
    """Call it, and return what the BadRequest of its refusal says."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await finished(method(request_, timeout=CALL_TIMEOUT_S))
    metadata = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata[DETAILS_KEY])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = error_details_pb2.BadRequest()
    assert any(detail.Unpack(found) for detail in status.details)
    return found.field_violations[0]


async def finished(answer: Any) -> None:
    """Wait for a response, or read a stream to its end."""
    if not hasattr(answer, "__aiter__"):
        await answer
        return
    async for _ in answer:
        continue
