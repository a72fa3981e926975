"""Missed trades through the whole of K2: fetched, stored once, and the certificate complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.rpc.client import call, channel
from tests.support.holes import never_issued
from tests.support.polling import eventually
from tests.support.whole import all_arrived, whole_k2
from tools.cli.session.proof import prove
from tools.cli.session.source import Source
from tools.simulator import truth
from tools.simulator.session import generated

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

SYMBOL = "BTCUSDT"
FAULTS = ("skip:at=300,count=5", "drop:at=2000", "skip:at=4000,count=60", "drop:at=7000")
HOLE_ROWS = (200, 201, 350)


async def test_what_connections_missed_is_healed_and_what_never_was_is_declared(
    tmp_path: Path,
) -> None:
    """Skips, cuts and ids never issued: all trades once, certificates complete, holes named."""
    path = tmp_path / "session.gz"
    session = generated(31, symbols=3, trades=10_000, rate=1_000, time_unit="us")
    absent = never_issued(session, path, SYMBOL, HOLE_ROWS)
    source = Source(recordings=(path,), pace="max", faults=FAULTS)
    expected = truth.expected(source.session())
    async with (
        whole_k2(tmp_path / "k2", source) as fleet,
        channel(fleet.door("query").grpc or "") as connection,
    ):
        service = QueryServiceStub(connection)

        async def complete() -> bool:
            return all([(await certified(service, each)).complete for each in expected])

        await all_arrived(fleet, sum(each.count for each in expected.values()))
        await eventually(complete, 30, poll_s=0.2)
        certificate = await certified(service, SYMBOL)
        proof = await prove(expected, fleet.door("query").grpc or "")
    assert all(proof.holds_for(each) for each in expected), proof
    venue = {
        (SYMBOL, id_)
        for hole in certificate.holes
        if hole.reason == "VENUE"
        for id_ in range(hole.first_id, hole.last_id + 1)
    }
    assert venue == absent


async def certified(service: QueryServiceAsyncStub, symbol: str) -> pb.CheckCompletenessResponse:
    request = pb.CheckCompletenessRequest(symbol=symbol, page_size=1_000)
    return await call(service.CheckCompleteness, request)
