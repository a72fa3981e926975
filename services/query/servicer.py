"""QueryService: Protobuf in, Protobuf out."""
# ruff: noqa: N802, ARG002 (names and arguments are the IDL's)

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, TypeAlias

import grpc
import msgspec
from k2.query.v1 import query_pb2, query_pb2_grpc

from libs.degradation.level import Level
from libs.lake.completeness.scope import Scope
from libs.market.clock import Clock
from libs.market.errors import InvalidError
from libs.rpc.pages import page_size
from libs.rpc.times import timestamp
from services.query import answers, snapshots
from services.query.completeness import certificates
from services.query.completeness.certifying import Certifier, Verdict
from services.query.completeness.judging import (
    earliest_us,
    judged_bars,
    judged_page,
    judged_rows,
    judged_since,
)
from services.query.completeness.provenance import provenance
from services.query.keeper import Keeper
from services.query.pages import NameToken, SequenceToken, hash_of, read_token
from services.query.queries import Queries
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
        self._certifier = Certifier()

    async def ListTrades(
        self, request: query_pb2.ListTradesRequest, context: Context
    ) -> query_pb2.ListTradesResponse:
        asked = page_asked(request)
        page = await self._queries.page(asked, request.page_token)
        wanted = page.listing.wanted
        bound = None if page.whole else await self._queries.bound_of(page.state, wanted)
        verdict, whole = judged_page(self._certifier, page, bound)
        rows = answers.with_derived(page.rows, page.listing.columns)
        payloads = answers.fitting(answers.trade_payloads(rows))
        response = query_pb2.ListTradesResponse.FromString(answers.repeated(payloads))
        if page.more or len(payloads) < rows.num_rows:
            token = page.next_page(len(payloads) - 1)
            response.next_page_token = msgspec.structs.replace(token, whole=whole).encode()
        response.provenance.CopyFrom(provenance(page.state, verdict))
        return response

    async def ReadTrades(
        self, request: query_pb2.ReadTradesRequest, context: Context
    ) -> AsyncIterator[query_pb2.ReadTradesResponse]:
        listing = listing_of(request.filter, request.order, request.columns)
        left = bounded(request.limit, "limit", MOST_LIMIT, MOST_LIMIT)
        most_rows = left if request.limit else None
        state, listing, bands = await self._queries.bands(listing, at_of(request.at), most_rows)
        bound = await self._queries.bound_of(state, listing.wanted)
        told = False
        async for band in bands:
            shown = band.slice(0, left)
            left -= shown.num_rows
            for stream in answers.ipc_streams(answers.with_derived(shown, listing.columns)):
                response = query_pb2.ReadTradesResponse(arrow_ipc=stream)
                if not told:
                    spoken_of = shown if left <= 0 else None
                    verdict = judged_rows(self._certifier, state, listing, bound, spoken_of)
                    response.provenance.CopyFrom(provenance(state, verdict))
                    told = True
                yield response
            if left <= 0:
                break
        if not told:
            nothing = answers.ipc_stream(answers.no_rows(listing))
            told_of = provenance(state, judged_rows(self._certifier, state, listing, bound))
            yield query_pb2.ReadTradesResponse(arrow_ipc=nothing, provenance=told_of)

    async def FollowTrades(
        self, request: query_pb2.FollowTradesRequest, context: Context
    ) -> AsyncIterator[query_pb2.FollowTradesResponse]:
        wanted = selection_of(request.filter).at_all_times()
        last = bounded(request.last, "last", 0, MOST_FOLLOW_LAST)
        told: Verdict | None = None
        since_us: int | None = None
        async for state, rows in self._queries.follow(wanted, last):
            since_us = earliest_us(rows) if since_us is None else since_us
            verdict = judged_since(self._certifier, state, wanted, since_us)
            news = None if verdict == told else provenance(state, verdict)
            told = verdict
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
        asked, at = bars_asked(request), at_of(request.at)
        state, bars = await self._queries.bars(asked, at)
        payloads = answers.bar_payloads(bars)
        response = query_pb2.GetBarsResponse.FromString(answers.repeated(payloads))
        past = (
            replace(asked.wanted, ceiling=state.high) if at.as_of_us is not None else asked.wanted
        )
        bound = await self._queries.bound_of(state, past)
        verdict = judged_bars(self._certifier, state, asked, bars, bound)
        response.provenance.CopyFrom(provenance(state, verdict))
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
            provenance=provenance(state, self._certifier.verdict(state, Scope("", exchange))),
        )

    async def ListSnapshots(
        self, request: query_pb2.ListSnapshotsRequest, context: Context
    ) -> query_pb2.ListSnapshotsResponse:
        self._queries.admit("ListSnapshots")
        most = page_size(request.page_size, default=100, most=1_000)
        asked = hash_of("ListSnapshots")
        token = read_token(request.page_token, asked, SequenceToken)
        state = self._board.state
        kept = snapshots.newest_first(state.table)
        infos = [snapshots.info(snapshots.table_of(state), snapshot) for snapshot in kept]
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
        self._queries.admit("GetSnapshot")
        state = self._board.state
        found = snapshots.named(state.table, request.snapshot_id)
        info = snapshots.info(snapshots.table_of(state), found)
        return query_pb2.GetSnapshotResponse(snapshot=answers.snapshot(info))

    async def GetStatus(
        self, request: query_pb2.GetStatusRequest, context: Context
    ) -> query_pb2.GetStatusResponse:
        state, now_s = self._board.state, self._clock.monotonic_s()
        response = query_pb2.GetStatusResponse(
            provenance=provenance(state, self._certifier.verdict(state, Scope())),
            committed_rows=state.index.rows,
            committed_files=len(state.index.files),
            tail_rows=state.tail.rows,
            held_rows=state.tail.held_rows,
            tail_bytes=state.tail.bytes_in_memory + state.tail.bytes_on_disk,
            freshness_p50_us=self._keeper.freshness.percentile_us(0.5, now_s),
            freshness_p99_us=self._keeper.freshness.percentile_us(0.99, now_s),
            level=self._level().name,
            catalog_problem=self._catalog_problem(),
            log_problem=self._log_problem(),
        )
        if self._keeper.newest_ingest_us:
            newest = timestamp(self._keeper.newest_ingest_us)
            response.newest_ingest_timestamp.CopyFrom(newest)
        return response

    async def CheckCompleteness(
        self, request: query_pb2.CheckCompletenessRequest, context: Context
    ) -> query_pb2.CheckCompletenessResponse:
        asked = certificates.asked_of(request, self._clock.now_us())
        state = await self._queries.state_knowing(asked.scope)
        certificate = self._certifier.certificate(state, asked.scope)
        return certificates.response_of(certificate, asked, behind_log=state.behind_log)
