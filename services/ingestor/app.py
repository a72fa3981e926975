"""The ingestor's wiring."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import count

import structlog
from k2.ingestor.v1 import ingestor_pb2_grpc

from libs.degradation.agent import DegradationAgent
from libs.degradation.messages import OwnReport
from libs.degradation.obedience import Applied
from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_producer
from libs.kafka.dead_letters import ensure_dead_letter_topics
from libs.kafka.topics import dead_letter_topic
from libs.market.bucket import bucket_of
from libs.market.clock import SystemClock
from libs.market.errors import UnavailableError
from libs.runtime.serving import Service
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import register_trades
from services.ingestor.config import ALL_SYMBOLS, IngestorConfig
from services.ingestor.connection import open_feed
from services.ingestor.delivery import Producer
from services.ingestor.encoding import EXCHANGE
from services.ingestor.exchange_info import ListedSymbol, chosen, fetch_symbols
from services.ingestor.feeds import Overview
from services.ingestor.publisher import Destination, Publisher
from services.ingestor.servicer import NAME, IngestorServicer
from services.ingestor.session import Pace, Session
from services.ingestor.streams import shards, trade_streams
from services.ingestor.symbols import SymbolTable, symbol_table

log = structlog.get_logger()

# Long enough to save round trips, short enough that a burst holds the event loop some 10 ms.
BURST_MESSAGES = 4096


async def build(config: IngestorConfig) -> Service:
    """Ask the exchange for its symbols, prepare Kafka, and wire the actors.

    Raises:
        UnavailableError: Kafka does not answer, or the exchange does not when all symbols
            are asked for.
        ConfigError: there is no symbol to take.
    """
    table = await _symbols(config)
    destination = await _destination(config)
    publisher = Publisher(
        table=table,
        destination=destination,
        open_producer=partial(_open_producer, config),
        clock=SystemClock(),
    )
    sessions = _sessions(config, table, publisher)
    overview = partial(_overview, publisher, sessions)
    servicer = (
        ingestor_pb2_grpc.add_IngestorServiceServicer_to_server,
        IngestorServicer(overview),
        NAME,
    )
    return Service(
        name=config.name,
        kind="ingestor",
        actors=[publisher, *(session for session, _ in sessions), _degradation(config)],
        servicers=[servicer],
        grpc_address=config.grpc_address,
        metrics_address=config.metrics_address,
        run_dir=config.run_dir,
        ready=lambda: all(session.connected_once for session, _ in sessions),
    )


async def _symbols(config: IngestorConfig) -> SymbolTable:
    listed: list[ListedSymbol] = []
    try:
        listed = await fetch_symbols(config.rest_url)
    except UnavailableError as error:
        if ALL_SYMBOLS in config.symbols:
            raise
        log.warning("currencies_derived", because=error.message)
    symbols = chosen(config.symbols, listed)
    currencies = {found.symbol: found.quote_asset for found in listed}
    return symbol_table(symbols, currencies, [bucket_of(symbol) for symbol in symbols])


async def _destination(config: IngestorConfig) -> Destination:
    dead_letters = dead_letter_topic(config.topic)
    await ensure_topics(config.kafka_bootstrap, [config.topic])
    await ensure_dead_letter_topics(config.kafka_bootstrap, [config.topic])
    config.schema_registry.parent.mkdir(parents=True, exist_ok=True)
    registry = SchemaRegistry(config.schema_registry)
    schema_id = await asyncio.to_thread(register_trades, registry, config.topic)
    return Destination(config.topic, dead_letters, schema_id)


async def _open_producer(config: IngestorConfig) -> Producer:
    producer: Producer = await start_producer(config.kafka_bootstrap, config.name)
    return producer


def _sessions(
    config: IngestorConfig, table: SymbolTable, publisher: Publisher
) -> list[tuple[Session, Sequence[str]]]:
    numbers = count(1)
    return [
        (
            Session(
                f"session-{number}",
                streams=trade_streams(config.exchange_url, symbols, config.time_unit),
                table=table,
                publisher=publisher.mailbox,
                numbers=lambda: next(numbers),
                open_feed=partial(open_feed, timeout_s=config.connect_timeout_s),
                pace=_pace(config),
                clock=SystemClock(),
            ),
            symbols,
        )
        for number, symbols in enumerate(shards(table.symbols), start=1)
    ]


def _pace(config: IngestorConfig) -> Pace:
    return Pace(
        silence_s=config.silence_s,
        life_s=config.connection_life_s,
        overlap_s=config.overlap_s,
        gather_s=config.gather_s,
        burst_messages=BURST_MESSAGES,
    )


def _degradation(config: IngestorConfig) -> DegradationAgent:
    return DegradationAgent(
        "ingestor",
        config.name,
        config.governor_address,
        OwnReport,
        _bear,
        memory_limit_bytes=config.memory_limit_bytes,
    )


def _bear(_: Applied) -> None:
    """Do nothing: below CIRCUIT_BREAK no level asks an ingestor for anything.

    What that one asks for, to stop taking new data, needs the spool first.
    """


def _overview(publisher: Publisher, sessions: Sequence[tuple[Session, Sequence[str]]]) -> Overview:
    states = {symbol: session.state for session, symbols in sessions for symbol in symbols}
    return Overview(
        feeds=publisher.feeds(EXCHANGE, states),
        reconnects=sum(session.reconnects for session, _ in sessions),
        malformed_frames=publisher.rejected,
    )
