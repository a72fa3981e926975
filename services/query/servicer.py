"""QueryService: Protobuf in, Protobuf out."""
# ruff: noqa: N802, ARG002 (names and arguments are the IDL's)

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc
from k2.query.v1 import query_pb2, query_pb2_grpc

from libs.degradation.level import Level
from libs.market.clock import Clock
from libs.market.errors import InvalidError
from libs.rpc.pages import page_size
from services.query import answers, snapshots
from services.query.completeness import MissingRange
from services.query.keeper import Keeper
from services.query.pages import NameToken, SequenceToken, hash_of, read_token
from services.query.queries import Queries, table_of
from services.query.requests import (
    at_of,
    bars_asked,
    bounded,
    listing_of,
    name_of,
    page_asked,
    selection_of,
)
from services.query.state import Board

MOST_FOLLOW_LAST = 10_000
MOST_LIMIT = 2**62

Lacks: TypeAlias = tuple[MissingRange, ...]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class QueryServicer(query_pb2_grpc.QueryServiceServicer):
    """Thin: checks requests, asks `Queries`, writes answers."""

    def __init__(
        self,
        queries: Queries,
        board: Board,
        keeper: Keeper,
        *,
        level: Callable[[], Level],
        catalog_problem: Callable[[], str],
        log_problem: Callable[[], str],
        clock: Clock,
    ) -> None:
        self._queries = queries
        self._board = board
        self._keeper = keeper
        self._level = level
        self._catalog_problem = catalog_problem
        self._log_problem = log_problem
        self._clock = clock

    async def ListTrades(
        self, request: query_pb2.ListTradesRequest, context: Context
    ) -> query_pb2.ListTradesResponse:
        asked = page_asked(request)
        page = await self._queries.page(asked, request.page_token)
        rows = answers.with_derived(page.rows, page.listing.columns)
        payloads = answers.fitting(answers.trade_payloads(rows))
        response = query_pb2.ListTradesResponse.FromString(answers.repeated(payloads))
        if page.more or len(payloads) < rows.num_rows:
            response.next_page_token = page.next_page(len(payloads) - 1).encode()
        response.provenance.CopyFrom(answers.provenance(page.state))
        return response

    async def ReadTrades(
        self, request: query_pb2.ReadTradesRequest, context: Context
    ) -> AsyncIterator[query_pb2.ReadTradesResponse]:
        listing = listing_of(request.filter, request.order, request.columns)
        left = bounded(request.limit, "limit", MOST_LIMIT, MOST_LIMIT)
        state, listing, bands = await self._queries.bands(listing, at_of(request.at))
        provenance: query_pb2.Provenance | None = answers.provenance(state)
        async for band in bands:
            rows = answers.with_derived(band.slice(0, left), listing.columns)
            left -= rows.num_rows
            for stream in answers.ipc_streams(rows):
                yield query_pb2.ReadTradesResponse(arrow_ipc=stream, provenance=provenance)
                provenance = None
            if left <= 0:
                break
        if provenance is not None:
            nothing = answers.ipc_stream(answers.no_rows(listing))
            yield query_pb2.ReadTradesResponse(arrow_ipc=nothing, provenance=provenance)

    async def FollowTrades(
        self, request: query_pb2.FollowTradesRequest, context: Context
    ) -> AsyncIterator[query_pb2.FollowTradesResponse]:
        wanted = selection_of(request.filter).at_all_times()
        last = bounded(request.last, "last", 0, MOST_FOLLOW_LAST)
        told: Lacks | None = None
        async for state, rows in self._queries.follow(wanted, last):
            news = None if state.lacks == told else answers.provenance(state)
            told = state.lacks
            payloads = answers.trade_payloads(answers.with_all(rows))
            while payloads or news is not None:
                sent = answers.fitting(payloads)
                response = query_pb2.FollowTradesResponse.FromString(answers.repeated(sent))
                if news is not None:
                    response.provenance.CopyFrom(news)
                yield response
                payloads, news = payloads[len(sent) :], None

    async def GetBars(
        self, request: query_pb2.GetBarsRequest, context: Context
    ) -> query_pb2.GetBarsResponse:
        state, bars = await self._queries.bars(bars_asked(request), at_of(request.at))
        payloads = answers.bar_payloads(bars)
        response = query_pb2.GetBarsResponse.FromString(answers.repeated(payloads))
        response.provenance.CopyFrom(answers.provenance(state))
        return response

    async def ListSymbols(
        self, request: query_pb2.ListSymbolsRequest, context: Context
    ) -> query_pb2.ListSymbolsResponse:
        exchange = name_of(request.exchange, "exchange")
        most = page_size(request.page_size, default=1_000, most=10_000)
        asked = hash_of("ListSymbols", exchange)
        token = read_token(request.page_token, asked, NameToken)
        state, known = await self._queries.symbols()
        names = [name for name in known if not exchange or name.exchange == exchange]
        if token is not None:
            names = [name for name in names if name > token.last]
        return query_pb2.ListSymbolsResponse(
            symbols=[answers.symbol_summary(name, known[name]) for name in names[:most]],
            next_page_token=NameToken(asked, names[most - 1]).encode() if names[most:] else "",
            provenance=answers.provenance(state),
        )

    async def ListSnapshots(
        self, request: query_pb2.ListSnapshotsRequest, context: Context
    ) -> query_pb2.ListSnapshotsResponse:
        most = page_size(request.page_size, default=100, most=1_000)
        asked = hash_of("ListSnapshots")
        token = read_token(request.page_token, asked, SequenceToken)
        state = self._board.state
        kept = snapshots.newest_first(state.table)
        infos = [snapshots.info(table_of(state), snapshot) for snapshot in kept]
        if token is not None:
            infos = [found for found in infos if found.sequence_number < token.last]
        last = infos[most - 1].sequence_number if infos[most:] else None
        return query_pb2.ListSnapshotsResponse(
            snapshots=[answers.snapshot(found) for found in infos[:most]],
            next_page_token=SequenceToken(asked, last).encode() if last is not None else "",
        )

    async def GetSnapshot(
        self, request: query_pb2.GetSnapshotRequest, context: Context
    ) -> query_pb2.GetSnapshotResponse:
        if request.snapshot_id <= 0:
            raise InvalidError("snapshot_id is required and positive", field="snapshot_id")
        state = self._board.state
        found = snapshots.named(state.table, request.snapshot_id)
        info = snapshots.info(table_of(state), found)
        return query_pb2.GetSnapshotResponse(snapshot=answers.snapshot(info))

    async def GetStatus(
        self, request: query_pb2.GetStatusRequest, context: Context
    ) -> query_pb2.GetStatusResponse:
        state, now_s = self._board.state, self._clock.monotonic_s()
        response = query_pb2.GetStatusResponse(
            provenance=answers.provenance(state),
            committed_rows=state.index.rows,
            committed_files=len(state.index.files),
            tail_rows=state.tail.rows,
            tail_bytes=state.tail.bytes_in_memory + state.tail.bytes_on_disk,
            freshness_p50_us=self._keeper.freshness.percentile_us(0.5, now_s),
            freshness_p99_us=self._keeper.freshness.percentile_us(0.99, now_s),
            level=self._level().name,
            catalog_problem=self._catalog_problem(),
            log_problem=self._log_problem(),
        )
        if self._keeper.newest_ingest_us:
            newest = answers.proto_time(self._keeper.newest_ingest_us)
            response.newest_ingest_timestamp.CopyFrom(newest)
        return response
