"""The ingestor's wiring."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

import structlog
from k2.ingestor.v1 import ingestor_pb2_grpc

from libs.degradation.agent import DegradationAgent
from libs.degradation.messages import OwnReport
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
from services.ingestor import measures
from services.ingestor.config import ALL_SYMBOLS, IngestorConfig
from services.ingestor.control import Control, Intake
from services.ingestor.delivering.backlog import Backlog
from services.ingestor.delivering.deliverer import Deliverer
from services.ingestor.delivering.delivery import Delivery, Producer
from services.ingestor.exchange.connection import open_feed
from services.ingestor.exchange.exchange_info import ListedSymbol, chosen, fetch_symbols
from services.ingestor.exchange.session import Pace, Session
from services.ingestor.exchange.streams import shards, trade_streams
from services.ingestor.feeds import HealingView, IntakeView, Overview, WaitingView
from services.ingestor.healing.healer import Healer, HealingRules
from services.ingestor.healing.holes import declare_to
from services.ingestor.healing.rest import TradesApi
from services.ingestor.parsing.symbols import SymbolTable, symbol_table
from services.ingestor.publishing.encoding import EXCHANGE
from services.ingestor.publishing.publisher import Destination, Publisher
from services.ingestor.servicer import NAME, IngestorServicer
from services.ingestor.spool.spool import Found, Spool

log = structlog.get_logger()

# Long enough to save round trips, short enough that a burst holds the event loop some 10 ms.
BURST_MESSAGES = 4096


@dataclass(frozen=True, slots=True)
class Parts:
    """What an ingestor consists of."""

    backlog: Backlog
    deliverer: Deliverer
    publisher: Publisher
    sessions: list[tuple[Session, Sequence[str]]]
    intake: Intake
    control: Control
    delivery: Delivery
    healer: Healer | None


async def build(config: IngestorConfig) -> Service:
    """Ask the exchange for its symbols, prepare Kafka and the spool, and wire the actors.

    Raises:
        UnavailableError: Kafka does not answer, or the exchange does not when all symbols
            are asked for.
        ConfigError: there is no symbol to take.
        ConflictError: another ingestor uses the spool's folder.
    """
    table = await _symbols(config)
    destination = await _destination(config)
    parts = await _parts(config, table, destination)
    servicer = (
        ingestor_pb2_grpc.add_IngestorServiceServicer_to_server,
        IngestorServicer(partial(_overview, parts)),
        NAME,
    )
    sessions = [session for session, _ in parts.sessions]
    healers = [parts.healer] if parts.healer is not None else []
    actors = [parts.deliverer, parts.publisher, parts.control, *healers, *sessions]
    return Service(
        name=config.name,
        kind="ingestor",
        actors=[*actors, _degradation(config, parts.control)],
        servicers=[servicer],
        grpc_address=config.grpc_address,
        metrics_address=config.metrics_address,
        run_dir=config.run_dir,
        ready=lambda: all(session.connected_once for session in sessions),
        release=partial(_release, parts),
    )


async def _parts(config: IngestorConfig, table: SymbolTable, destination: Destination) -> Parts:
    clock = SystemClock()
    delivery = Delivery(
        partial(_open_producer, config),
        clock=clock,
        on_acknowledged=partial(_count_acknowledged, config.topic),
    )
    spool = Spool(config.spool_dir, config.spool_bytes, clock)
    backlog = Backlog(spool, silent_s=lambda: delivery.silent_s)
    deliverer = Deliverer(backlog, delivery)
    publisher = Publisher(
        table=table,
        destination=destination,
        backlog=backlog,
        outstanding=lambda: deliverer.outstanding,
        book_dir=config.spool_dir,
        clock=clock,
    )
    found = await backlog.open()
    _say_found(found)
    publisher.resume(found.runs)
    intake = Intake()
    control = Control(intake, spool_full=lambda: backlog.full)
    sessions = _sessions(config, table, publisher, intake)
    healer = _healer(config, publisher, backlog) if config.heal else None
    return Parts(backlog, deliverer, publisher, sessions, intake, control, delivery, healer)


def _healer(config: IngestorConfig, publisher: Publisher, backlog: Backlog) -> Healer:
    def held_because() -> str:
        return "the spool is in use: Kafka first" if backlog.spooled_records else ""

    key = config.api_key.get_secret_value() if config.api_key is not None else None
    address = config.writer_address
    return Healer(
        TradesApi(config.rest_url, config.time_unit, key),
        HealingRules(config.heal_after_s, config.heal_weight, config.quiet_after_s),
        gaps=publisher.open_gaps,
        quiet=publisher.quiet,
        held_because=held_because,
        publisher=publisher.mailbox,
        declare=None if address is None else declare_to(address),
        clock=SystemClock(),
    )


async def _release(parts: Parts) -> None:
    """Leave the folder as the next process should find it."""
    await parts.publisher.write_last_page()
    await parts.backlog.close()


def _say_found(found: Found) -> None:
    if found.records:
        log.info("spool_found", records=found.records, bytes=found.size_bytes)
    for torn in found.torn:
        log.error(
            "spool_torn", file=str(torn.path), lost_bytes=torn.lost_bytes, because=torn.because
        )


def _count_acknowledged(topic: str, acknowledged_topic: str, records: int) -> None:
    if acknowledged_topic == topic:
        measures.TRADES.inc(records)


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
    config: IngestorConfig, table: SymbolTable, publisher: Publisher, intake: Intake
) -> list[tuple[Session, Sequence[str]]]:
    numbers = count(1)
    return [
        (
            Session(
                f"session-{number}",
                streams=trade_streams(config.exchange_url, symbols, config.time_unit),
                table=table,
                codes=[table.codes[symbol] for symbol in symbols],
                publisher=publisher.mailbox,
                numbers=lambda: next(numbers),
                open_feed=partial(open_feed, timeout_s=config.connect_timeout_s),
                pace=_pace(config),
                intake=intake,
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


def _degradation(config: IngestorConfig, control: Control) -> DegradationAgent:
    return DegradationAgent(
        "ingestor",
        config.name,
        config.governor_address,
        OwnReport,
        control.bear,
        memory_limit_bytes=config.memory_limit_bytes,
    )


def _overview(parts: Parts) -> Overview:
    states = {symbol: session.state for session, symbols in parts.sessions for symbol in symbols}
    reason = parts.healer.reason if parts.healer is not None else _unhealed
    return Overview(
        feeds=parts.publisher.feeds(EXCHANGE, states, reason),
        reconnects=sum(session.reconnects for session, _ in parts.sessions),
        malformed_frames=parts.publisher.rejected,
        waiting=_waiting(parts),
        healing=_healing(parts),
        intake=_intake(parts),
    )


def _unhealed(_code: int, _first: int) -> str:
    return "K2_INGESTOR_HEAL is off"


def _waiting(parts: Parts) -> WaitingView:
    backlog = parts.backlog
    return WaitingView(
        memory_records=parts.deliverer.outstanding - backlog.spooled_records,
        spooled_records=backlog.spooled_records,
        spooled_bytes=backlog.spooled_bytes,
        most_bytes=backlog.most_bytes,
        full_because=backlog.full_because,
        kafka_silent_s=parts.delivery.silent_s,
    )


def _healing(parts: Parts) -> HealingView:
    healer = parts.healer
    if healer is None:
        return HealingView(enabled=False, waits_because=_unhealed(0, 0))
    return HealingView(
        enabled=True,
        requests=healer.requests,
        used_weight=healer.budget.used,
        most_weight=healer.budget.most,
        waits_because=healer.waits_because,
    )


def _intake(parts: Parts) -> IntakeView:
    intake = parts.intake
    return IntakeView(
        taking=intake.taking,
        stops=intake.stops,
        discarded_messages=intake.discarded_messages,
        memory_level=parts.control.memory_level.name,
    )
