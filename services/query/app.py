"""Wiring of the query service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from k2.query.v1 import query_pb2, query_pb2_grpc

from libs.degradation.agent import DegradationAgent
from libs.degradation.messages import OwnReport
from libs.degradation.obedience import Applied
from libs.degradation.policy import load_policy
from libs.kafka.same_log import KafkaLog, Partition, StoredRow
from libs.kafka.topics import exchange_of
from libs.lake.table.catalog import open_lake
from libs.market.clock import Clock, SystemClock
from libs.native.library import warn_where_nothing_is_compiled
from libs.runtime.service import Service
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import TradeDecoder
from services.query.admission import Admission, critical_by
from services.query.config import QueryConfig
from services.query.keeper import Keeper
from services.query.queries import Queries
from services.query.reading.engine import Engine, Pool
from services.query.servicer import QueryServicer
from services.query.state import Board, State
from services.query.tail.reader import TailReader
from services.query.tail.same_log import LogCheck, stored_rows
from services.query.tail.shed_reader import ShedReader
from services.query.watcher import CatalogWatcher

KIND = "query"
FULL_NAME = query_pb2.DESCRIPTOR.services_by_name["QueryService"].full_name


async def build(config: QueryConfig) -> Service:
    """Wire the service; nothing runs yet."""
    clock, board = SystemClock(), Board()
    warn_where_nothing_is_compiled(costs="more CPU a record of the tail")
    lake = await asyncio.to_thread(open_lake, config.catalog_uri, config.warehouse)
    engine = engine_of(config)
    points = pool_of(config, engine, "point", config.point_workers)
    scans = pool_of(config, engine, "scan", config.scan_workers)
    keeper = keeper_of(config, board, clock)
    watcher = CatalogWatcher(lake, keeper, poll_s=config.catalog_poll_s)
    reader = reader_of(config, board, keeper, scans)
    shed_reader = shed_reader_of(config, board, keeper)
    agent = agent_of(config, clock)

    async def release() -> None:
        for part in (shed_reader, reader, watcher, keeper):
            part.release()
        for pool in (points, scans):
            await asyncio.to_thread(pool.close)
        engine.close()
        lake.close()

    def catalog_problem() -> str:
        return watcher.problem

    queries = Queries(
        board, points, scans, admission_of(config, agent), clock, catalog_problem=catalog_problem
    )
    servicer = QueryServicer(
        queries,
        board,
        keeper,
        level=lambda: agent.applied.memory_level,
        catalog_problem=catalog_problem,
        log_problem=lambda: reader.problem or reader.aside.problem,
        clock=clock,
    )
    return Service(
        name=config.name,
        kind=KIND,
        actors=[keeper, watcher, reader, shed_reader, agent],
        servicers=[(query_pb2_grpc.add_QueryServiceServicer_to_server, servicer, FULL_NAME)],
        grpc_address=config.grpc_address,
        metrics_address=config.metrics_address,
        ready=lambda: keeper.caught_up and not reader.problem,
        release=release,
        run_dir=config.run_dir,
    )


def engine_of(config: QueryConfig) -> Engine:
    return Engine(
        threads=config.engine_threads,
        memory_limit_bytes=config.engine_memory_bytes,
        spill_dir=config.spill_dir / config.name,
    )


def keeper_of(config: QueryConfig, board: Board, clock: Clock) -> Keeper:
    return Keeper(
        board,
        clock,
        memory_bytes=config.tail_memory_bytes,
        held_bytes=config.held_bytes,
        spill_dir=config.spill_dir,
    )


def shed_reader_of(config: QueryConfig, board: Board, keeper: Keeper) -> ShedReader:
    return ShedReader(
        config.kafka_bootstrap,
        board,
        keeper,
        decoder_of(config),
        client_id=f"{config.name}-shed",
    )


def reader_of(config: QueryConfig, board: Board, keeper: Keeper, scans: Pool) -> TailReader:
    log = KafkaLog(config.kafka_bootstrap, f"{config.name}-check", decoder_of(config))

    async def find_rows(
        state: State, offsets: Mapping[Partition, int]
    ) -> Mapping[Partition, StoredRow]:
        return await scans.run(lambda reader: stored_rows(state, offsets, reader))

    return TailReader(
        config.kafka_bootstrap,
        config.topics,
        board,
        keeper,
        decoder_of(config),
        LogCheck(log, find_rows),
        client_id=config.name,
        most_bytes=config.tail_bytes,
        check_every_s=config.log_check_s,
    )


def decoder_of(config: QueryConfig) -> TradeDecoder:
    """Make a decoder for one thread."""
    return TradeDecoder(SchemaRegistry(config.schema_registry))


def agent_of(config: QueryConfig, clock: Clock) -> DegradationAgent:
    return DegradationAgent(
        KIND,
        config.name,
        config.governor_address,
        OwnReport,
        ignore,
        memory_limit_bytes=config.memory_limit_bytes,
        clock=clock,
    )


def admission_of(config: QueryConfig, agent: DegradationAgent) -> Admission:
    policy = load_policy(config.priority_policy)
    exchanges = sorted({exchange_of(topic) for topic in config.topics})
    return Admission(
        lambda: agent.applied.memory_level,
        is_critical=critical_by(policy, exchanges),
        heavy_bytes=config.heavy_bytes,
        retry_after_s=lambda: agent.cooldown_s,
    )


def pool_of(config: QueryConfig, engine: Engine, name: str, workers: int) -> Pool:
    return Pool(
        name,
        engine,
        workers=workers,
        most_waiting=config.most_waiting,
        timeout_s=config.timeout_s,
    )


def ignore(_: Applied) -> None:
    """Do nothing: the level is looked at when a query asks to be let in."""
