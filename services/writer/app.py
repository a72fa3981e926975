"""Wires the writer together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from k2.writer.v1 import dead_letters_pb2_grpc, writer_pb2_grpc

from libs.degradation.agent import DegradationAgent
from libs.degradation.messages import OwnReport
from libs.degradation.policy import load_policy
from libs.kafka.admin import cluster_id, ensure_topics, retention_of
from libs.kafka.dead_letter_log import DeadLetterLog
from libs.kafka.dead_letters import ensure_dead_letter_topics
from libs.kafka.same_log import KafkaLog
from libs.lake.catalog import Lake, open_lake
from libs.lake.maintenance import Maintenance
from libs.lake.tables import TRADES, ensure_trades
from libs.market.clock import Clock, SystemClock
from libs.market.errors import ConfigError
from libs.runtime.faultpoint import reach_sync
from libs.runtime.mailbox import Mailbox
from libs.runtime.service import Service
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import TradeDecoder
from services.writer.backfill_reader import BackfillReader
from services.writer.backfiller import Backfiller, BackfillRules
from services.writer.batcher import Batcher
from services.writer.buffer import FlushRule
from services.writer.bursts import BurstRule, Bursts
from services.writer.committer import TableCommitter
from services.writer.config import WriterConfig
from services.writer.consumer import Consumer, ConsumerOptions
from services.writer.dead_letter_book import DeadLetterBook
from services.writer.dead_letter_servicer import SERVICE as DEAD_LETTERS
from services.writer.dead_letter_servicer import DeadLetterServicer
from services.writer.deadletters import KafkaDeadLetters
from services.writer.group import join
from services.writer.holding import Holding
from services.writer.lake import TradesTable
from services.writer.ledger_calls import LedgerCalls
from services.writer.ledger_reader import LedgerReader
from services.writer.maintainer import Maintainer, Surroundings
from services.writer.memory import keep_compact
from services.writer.messages import TableState, ToConsumer
from services.writer.pauses import MemoryRestraint
from services.writer.placing import Placer, another_cluster
from services.writer.reencoding import Reencoder
from services.writer.replayer import Replayer
from services.writer.servicer import SERVICE, WriterServicer
from services.writer.shedding import ShedRule
from services.writer.ticker import Ticker
from services.writer.traffic import LiveTraffic

WAITING_FOR_CONSUMER = 64


async def build(config: WriterConfig) -> Service:
    """Check what the writer stands on, then wire its actors.

    Raises:
        UnavailableError: Kafka or the catalog is not there.
        ConfigError: the table belongs to another Kafka cluster, or is not K2's; or the priority
            policy is wrong.
    """
    keep_compact()
    policy = load_policy(config.priority_policy)
    lake_thread = ThreadPoolExecutor(1, thread_name_prefix="lake")
    decode_thread = ThreadPoolExecutor(1, thread_name_prefix="decode")
    lake = await asyncio.get_running_loop().run_in_executor(lake_thread, open_table, config)
    registry = SchemaRegistry(config.schema_registry)
    table = TradesTable(lake, Reencoder(registry), config.maintenance_options)
    cluster = await prepare_kafka(config)
    state = await asyncio.get_running_loop().run_in_executor(lake_thread, table.state)
    refuse_other_cluster(state, cluster)

    clock = SystemClock()
    to_consumer: Mailbox[ToConsumer] = Mailbox("consumer", WAITING_FOR_CONSUMER)
    letters = KafkaDeadLetters(config.kafka_bootstrap, config.name, clock)
    committer = TableCommitter(table, letters, to_consumer, lake_thread, clock, cluster_id=cluster)
    decoder = TradeDecoder(registry)
    rule = FlushRule(int(config.flush_after_bytes), config.flush_after_s)
    log_now = KafkaLog(config.kafka_bootstrap, f"{config.name}-log", decoder)
    batcher = Batcher(
        committer,
        decoder,
        decode_thread,
        rule,
        clock,
        lambda level: ShedRule(policy, level, backfiller.spared, clock.now_us()),
        Bursts(BurstRule(config.burst_records)),
        to_consumer,
    )
    placer = Placer(committer, log_now, cluster_id=cluster)
    restraint = MemoryRestraint(policy, lambda: agent.applied.memory_level, clock)
    ledgers = LedgerReader(lake)
    holding = Holding(partial(retention_of, config.kafka_bootstrap), clock, config.probe_every_s)
    consumer = make_consumer(config, to_consumer, placer, batcher, restraint, holding)
    agent = make_agent(config, consumer, committer)
    ticker = Ticker(batcher, lambda: agent.applied)
    backfiller = Backfiller(
        committer,
        ledgers,
        BackfillReader(config.kafka_bootstrap, f"{config.name}-backfill"),
        decoder,
        decode_thread,
        LiveTraffic(consumer, batcher, agent).times,
        clock,
        BackfillRules(config.backfill_limits, BurstRule(config.burst_records)),
    )
    maintainer = make_maintainer(config, lake, table, consumer, committer, agent)
    ledger = LedgerCalls(ledgers, committer, clock)
    servicer = WriterServicer(
        config.name,
        consumer,
        batcher,
        committer,
        to_consumer,
        agent,
        ledger,
        maintainer,
        backfiller,
    )

    dead_letters, stop_replays = make_dead_letter_calls(config, to_consumer, clock)

    async def release() -> None:
        await letters.close()
        await stop_replays()
        maintainer.release()
        ledger.release()
        for thread in (decode_thread, lake_thread):
            thread.shutdown(wait=False)

    return Service(
        name=config.name,
        kind="writer",
        actors=[committer, batcher, ticker, consumer, maintainer, backfiller, agent],
        stop_order=[backfiller, maintainer, consumer, ticker, batcher, committer, agent],
        servicers=[
            (writer_pb2_grpc.add_WriterServiceServicer_to_server, servicer, SERVICE),
            (
                dead_letters_pb2_grpc.add_DeadLetterServiceServicer_to_server,
                dead_letters,
                DEAD_LETTERS,
            ),
        ],
        grpc_address=config.grpc_address,
        metrics_address=config.metrics_address,
        release=release,
        run_dir=config.run_dir,
    )


def make_dead_letter_calls(
    config: WriterConfig, consumer: Mailbox[ToConsumer], clock: Clock
) -> tuple[DeadLetterServicer, Callable[[], Awaitable[None]]]:
    """Return the calls, and what ends them."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="replay")
    # Beside those of the batcher and the committer, which live in other threads.
    decoder = TradeDecoder(SchemaRegistry(config.schema_registry))
    letters = KafkaDeadLetters(config.kafka_bootstrap, f"{config.name}-replay", clock)
    book = DeadLetterBook(
        config.topics, DeadLetterLog(config.kafka_bootstrap, f"{config.name}-dead-letter-log")
    )
    servicer = DeadLetterServicer(book, Replayer(decoder, thread, letters, clock), consumer)

    async def release() -> None:
        thread.shutdown(wait=False)
        await letters.close()

    return servicer, release


def make_consumer(
    config: WriterConfig,
    mailbox: Mailbox[ToConsumer],
    placer: Placer,
    batcher: Batcher,
    restraint: MemoryRestraint,
    holding: Holding,
) -> Consumer:
    options = ConsumerOptions(hand_over_s=min(5.0, config.session_timeout_ms / 2000))
    return Consumer(
        mailbox,
        lambda rebalance: join(config, rebalance),
        placer,
        batcher,
        restraint,
        holding,
        options,
    )


def open_table(config: WriterConfig) -> Lake:
    lake = open_lake(config.catalog_uri, config.warehouse, points=reach_sync)
    ensure_trades(lake)
    return lake


async def prepare_kafka(config: WriterConfig) -> str:
    """Make sure that the topics are there; return the cluster's id."""
    await ensure_topics(config.kafka_bootstrap, config.topics)
    await ensure_dead_letter_topics(config.kafka_bootstrap, config.topics)
    return await cluster_id(config.kafka_bootstrap)


def refuse_other_cluster(state: TableState, cluster: str) -> None:
    refusal = another_cluster(state, cluster)
    if refusal is not None:
        raise ConfigError(refusal.reason, table_cluster_id=state.cluster_id, cluster_id=cluster)


def make_maintainer(
    config: WriterConfig,
    lake: Lake,
    table: TradesTable,
    consumer: Consumer,
    committer: TableCommitter,
    agent: DegradationAgent,
) -> Maintainer:
    around = Surroundings(
        assigned=lambda: frozenset(view.partition for view in consumer.view()),
        level=lambda: agent.level,
        committing=lambda: not committer.idle,
    )
    maintenance = Maintenance(
        lake, TRADES, config.maintenance_options, points=reach_sync, turn=table.turn
    )
    return Maintainer(maintenance, config.topics, around, config.maintenance_rhythm, SystemClock())


def make_agent(
    config: WriterConfig, consumer: Consumer, committer: TableCommitter
) -> DegradationAgent:
    return DegradationAgent(
        "writer",
        config.name,
        config.governor_address,
        own_report(config.group, consumer, committer),
        lambda _: None,
        memory_limit_bytes=config.memory_limit_bytes,
    )


def own_report(
    group: str, consumer: Consumer, committer: TableCommitter
) -> Callable[[], OwnReport]:
    def report() -> OwnReport:
        views = consumer.view()
        ends = [view.end for view in views]
        known = [max(0, v.end - v.decoded) for v in views if v.end is not None]
        return OwnReport(
            consumer_group=group,
            positions={view.partition: view.decoded for view in views},
            lag=sum(known) if len(known) == len(ends) else None,
            commit_failures=committer.view.failures,
        )

    return report
