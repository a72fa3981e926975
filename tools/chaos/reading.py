"""Both sides of the proof: what was sent, and what queries and certificates say of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub

from libs.rpc.client import call, channel, stream
from tools.chaos.digest import CONTENT, digest
from tools.cli.session.proof import COLUMNS, POSITION, Answered
from tools.simulator.truth import ExpectedTrades

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

READ_TIMEOUT_S = 120.0
ASK_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the certificate of each symbol says, and which symbols lack something."""

    sentences: Mapping[str, str]
    lacking: Sequence[str]


async def read_back(address: str, symbols: Sequence[str]) -> dict[str, Answered]:
    """Read every trade of these symbols as Arrow, and sum it up."""
    async with channel(address) as connection:
        service = QueryServiceStub(connection)
        return {symbol: await _answered(service, symbol) for symbol in symbols}


async def certificates(address: str, expected: Mapping[str, ExpectedTrades]) -> Certificates:
    """Ask of each symbol whether all ids from its first to its last are held."""
    async with channel(address) as connection:
        service = QueryServiceStub(connection)
        found = {s: await _certificate(service, one) for s, one in expected.items() if one.count}
    sentences = {symbol: one.sentence for symbol, one in found.items()}
    return Certificates(sentences, [s for s, one in found.items() if not one.complete])


async def _certificate(
    service: QueryServiceAsyncStub, one: ExpectedTrades
) -> pb.CheckCompletenessResponse:
    request = pb.CheckCompletenessRequest(
        symbol=one.symbol, first_id=one.first_id, last_id=one.last_id
    )
    found: pb.CheckCompletenessResponse = await call(
        service.CheckCompleteness, request, timeout_s=ASK_TIMEOUT_S
    )
    return found


async def _answered(service: QueryServiceAsyncStub, symbol: str) -> Answered:
    request = pb.ReadTradesRequest(
        filter=pb.TradeFilter(symbol=symbol),
        order=pb.ORDER_OLDEST_FIRST,
        columns=(*COLUMNS, *POSITION),
    )
    parts: list[pa.Table] = []
    said = pb.Provenance()
    async for answer in stream(service.ReadTrades, request, timeout_s=READ_TIMEOUT_S):
        if answer.HasField("provenance"):
            said = answer.provenance
        parts.append(pa.ipc.open_stream(answer.arrow_ipc).read_all())
    return await asyncio.to_thread(_summed_up, symbol, pa.concat_tables(parts), said)


def _summed_up(symbol: str, rows: pa.Table, said: pb.Provenance) -> Answered:
    stored = sum(
        pc.sum(_below(rows, topic.topic, partition, offset)).as_py() or 0
        for topic in said.seam
        for partition, offset in topic.offsets.items()
    )
    return Answered(digest(symbol, _content(rows)), len(rows), stored, said.complete)


def _below(rows: pa.Table, topic: str, partition: int, offset: int) -> pa.ChunkedArray:
    """Mark the rows of a partition that are below the seam."""
    place = pc.and_(
        pc.equal(rows["kafka_topic"].cast(pa.string()), topic),
        pc.equal(rows["kafka_partition"], partition),
    )
    return pc.and_(place, pc.less(rows["kafka_offset"], offset))


def _content(rows: pa.Table) -> pa.Table:
    columns = {
        "source_sequence": rows["source_sequence"],
        "price": rows["price"],
        "quantity": rows["quantity"],
        "time_us": rows["timestamp"].cast(pa.int64()),
        "is_sell": pc.equal(rows["side"].cast(pa.string()), "SELL"),
    }
    return pa.table(columns).select(CONTENT.names)
