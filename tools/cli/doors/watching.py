"""What the running parts say of themselves, asked over the same doors that anyone may use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from k2.governor.v1 import governor_pb2, governor_pb2_grpc
from k2.ingestor.v1 import ingestor_pb2, ingestor_pb2_grpc
from k2.query.v1 import query_pb2, query_pb2_grpc
from k2.writer.v1 import writer_pb2, writer_pb2_grpc

from libs.market.errors import K2Error
from libs.rpc.client import call, channel
from libs.runtime.doors import Door

ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Flow:
    """The system at one moment. None: the part that knows did not answer."""

    received: int | None = None
    received_per_second: float | None = None
    gaps: int | None = None
    open_gaps: int | None = None
    healed: int | None = None
    spooled_bytes: int | None = None
    not_taking: int | None = None
    reconnects: int | None = None
    committed_rows: int | None = None
    committed_files: int | None = None
    commits: int | None = None
    dead_lettered: int | None = None
    partitions: int | None = None
    taken_partitions: int | None = None
    held_partitions: int | None = None
    held_because: str = ""
    not_committing_because: str = ""
    not_answering_all_because: str = ""
    not_reading_catalog_because: str = ""
    tail_rows: int | None = None
    freshness_p50_us: int | None = None
    freshness_p99_us: int | None = None
    complete: bool | None = None
    level: str | None = None
    explanation: str | None = None
    lag: int | None = None


async def flow_of(doors: Iterable[Door]) -> Flow:
    """Ask every part at once; who does not answer within 2 s leaves its numbers out."""
    asked = [_ASK[door.service](door.grpc) for door in doors if door.grpc and door.service in _ASK]
    answers = await asyncio.gather(*asked)
    merged: dict[str, int | float | str | bool] = {}
    for answer in answers:
        for name, value in answer.items():
            merged[name] = merged.get(name, 0) + value if name in _ADD_UP else value  # type: ignore[operator]
    return Flow(**merged)  # type: ignore[arg-type]


Answer = dict[str, int | float | str | bool]
_ADD_UP = {
    *("received", "received_per_second", "gaps", "reconnects", "commits", "dead_lettered"),
    *("open_gaps", "healed", "spooled_bytes", "not_taking", "held_partitions", "taken_partitions"),
}


async def _ask_ingestor(address: str) -> Answer:
    async with channel(address) as connection:
        stub = ingestor_pb2_grpc.IngestorServiceStub(connection)
        try:
            request = ingestor_pb2.ListFeedsRequest(page_size=10_000)
            answer = await call(stub.ListFeeds, request, timeout_s=ASK_TIMEOUT_S)
        except K2Error:
            return {}
    return {
        "received": sum(feed.trades for feed in answer.feeds),
        "received_per_second": sum(feed.trades_per_second for feed in answer.feeds),
        "gaps": sum(feed.gaps for feed in answer.feeds),
        "open_gaps": answer.healing.open_gaps,
        "healed": answer.healing.healed_trades,
        "spooled_bytes": answer.spool.spooled_bytes,
        "not_taking": not answer.intake.taking,
        "reconnects": answer.reconnects,
        "dead_lettered": answer.malformed_frames,
    }


async def _ask_writer(address: str) -> Answer:
    async with channel(address) as connection:
        stub = writer_pb2_grpc.WriterServiceStub(connection)
        try:
            answer = await call(
                stub.GetStatus, writer_pb2.GetStatusRequest(), timeout_s=ASK_TIMEOUT_S
            )
        except K2Error:
            return {}
    held = [partition.held_because for partition in answer.partitions if partition.held_because]
    # Of several writers the one that has trouble is shown.
    trouble = {"held_because": "".join(held[:1]), "not_committing_because": answer.stopped_because}
    told: Answer = {name: because for name, because in trouble.items() if because}
    return told | {
        "commits": answer.commits,
        "dead_lettered": answer.dead_lettered_rows,
        "taken_partitions": len(answer.partitions),
        "held_partitions": len(held),
    }


async def _ask_query(address: str) -> Answer:
    async with channel(address) as connection:
        stub = query_pb2_grpc.QueryServiceStub(connection)
        try:
            answer = await call(
                stub.GetStatus, query_pb2.GetStatusRequest(), timeout_s=ASK_TIMEOUT_S
            )
        except K2Error:
            return {}
    trouble = {
        "not_answering_all_because": answer.log_problem,
        "not_reading_catalog_because": answer.catalog_problem,
    }
    told: Answer = {name: because for name, because in trouble.items() if because}
    return told | {
        "committed_rows": answer.committed_rows,
        "committed_files": answer.committed_files,
        "partitions": sum(len(topic.offsets) for topic in answer.provenance.high),
        "tail_rows": answer.tail_rows,
        "freshness_p50_us": answer.freshness_p50_us,
        "freshness_p99_us": answer.freshness_p99_us,
        "complete": answer.provenance.complete,
    }


async def _ask_governor(address: str) -> Answer:
    async with channel(address) as connection:
        stub = governor_pb2_grpc.GovernorServiceStub(connection)
        try:
            answer = await call(
                stub.GetState, governor_pb2.GetStateRequest(), timeout_s=ASK_TIMEOUT_S
            )
        except K2Error:
            return {}
    directive = answer.state.directive
    if answer.state.HasField("leader") and not answer.state.leading:
        # The leader says it all; a standby sees no process.
        return {}
    name = governor_pb2.Level.Name(directive.level).removeprefix("LEVEL_")
    unknown = directive.level == governor_pb2.LEVEL_UNSPECIFIED
    level: Answer = {} if unknown else {"level": name}
    return level | {
        "explanation": directive.explanation,
        "lag": sum(group.lag for group in answer.state.groups),
    }


_ASK = {
    "ingestor": _ask_ingestor,
    "writer": _ask_writer,
    "query": _ask_query,
    "governor": _ask_governor,
}
