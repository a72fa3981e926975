"""Wires the writer together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import structlog
from k2.writer.v1 import dead_letters_pb2_grpc, writer_pb2_grpc

from libs.degradation.agent import DegradationAgent
from libs.degradation.messages import OwnReport
from libs.kafka.admin import retention_of
from libs.kafka.dead_letter_log import DeadLetterLog
from libs.kafka.same_log import KafkaLog
from libs.lake.maintenance.upkeep import Maintenance
from libs.lake.table.catalog import Lake
from libs.lake.table.tables import TRADES
from libs.market.clock import Clock, SystemClock
from libs.native.library import warn_where_nothing_is_compiled
from libs.rpc.server import Servicer
from libs.runtime.faultpoint import reach_sync
from libs.runtime.mailbox import Mailbox
from libs.runtime.service import Service
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import TradeDecoder
from services.writer.backfill.backfiller import Backfiller, BackfillRules
from services.writer.backfill.reader import BackfillReader
from services.writer.backfill.traffic import LiveTraffic
from services.writer.batching.batcher import Batcher
from services.writer.batching.buffer import FlushRule
from services.writer.batching.memory import keep_compact
from services.writer.batching.shedding import rule_under
from services.writer.batching.ticker import Ticker
from services.writer.commits.committer import TableCommitter
from services.writer.commits.lake import TradesTable
from services.writer.config import WriterConfig
from services.writer.dead_letters.book import DeadLetterBook
from services.writer.dead_letters.replayer import Replayer
from services.writer.dead_letters.sending import KafkaDeadLetters
from services.writer.dead_letters.servicer import SERVICE as DEAD_LETTERS
from services.writer.dead_letters.servicer import DeadLetterServicer
from services.writer.ground import Ground, ground_of
from services.writer.intake.bursts import BurstRule, Bursts
from services.writer.intake.consumer import Consumer, ConsumerOptions
from services.writer.intake.holding import Holding
from services.writer.intake.membership import Membership
from services.writer.intake.pauses import MemoryRestraint
from services.writer.intake.placing import Placer
from services.writer.ledger.calls import LedgerCalls
from services.writer.ledger.reader import LedgerReader
from services.writer.maintenance.maintainer import Maintainer, Surroundings
from services.writer.messages import ToConsumer
from services.writer.reporting import own_report
from services.writer.restarting.looking import Parts
from services.writer.restarting.past import PastRestarts
from services.writer.restarting.restarter import Around, Restarter
from services.writer.servicer import SERVICE, WriterServicer

log = structlog.get_logger()

WAITING_FOR_CONSUMER = 64


async def build(config: WriterConfig) -> Service:
    """Check what the writer stands on, then wire its actors.

    Raises:
        UnavailableError, ConfigError: as `ground_of`.
    """
    keep_compact()
    warn_where_nothing_is_compiled(costs="a quarter more CPU a row")
    return Wiring(config, await ground_of(config)).service()


class Wiring:
    """The actors, each given those it speaks to."""

    def __init__(self, config: WriterConfig, ground: Ground) -> None:
        self._config, self._ground = config, ground
        self._to_consumer: Mailbox[ToConsumer] = Mailbox("consumer", WAITING_FOR_CONSUMER)
        self._membership = Membership(config)
        self._letters = KafkaDeadLetters(config.kafka_bootstrap, config.name, ground.clock)
        self._committer = self._make_committer()
        self._batcher = self._make_batcher()
        self._restraint = MemoryRestraint(
            ground.policy,
            lambda: self._agent.demanded.memory_level,
            lambda: self._agent.recovering,
            ground.clock,
        )
        self._consumer = self._make_consumer()
        self._ticker = Ticker(self._batcher)
        self._agent = self._make_agent()
        self._restart_asked = asyncio.Event()
        self._restarter = self._make_restarter()
        self._ledgers = LedgerReader(ground.lake)
        self._backfiller = self._make_backfiller()
        self._maintainer = make_maintainer(
            config, ground.lake, ground.table, self._consumer, self._committer, self._agent
        )
        self._dead_letters, self._stop_replays = make_dead_letter_calls(
            config, self._to_consumer, ground.clock
        )

    def service(self) -> Service:
        committer, batcher, consumer = self._committer, self._batcher, self._consumer
        backfiller, maintainer = self._backfiller, self._maintainer
        return Service(
            name=self._config.name,
            kind="writer",
            actors=[
                *(committer, batcher, self._ticker, consumer),
                *(maintainer, backfiller, self._agent, self._restarter),
            ],
            stop_order=[
                *(self._restarter, backfiller, maintainer, consumer, self._ticker),
                *(batcher, committer, self._agent),
            ],
            servicers=self._servicers(),
            grpc_address=self._config.grpc_address,
            metrics_address=self._config.metrics_address,
            ready=self._membership.ready,
            release=self._release,
            run_dir=self._config.run_dir,
            restart_asked=self._restart_asked,
        )

    def _make_committer(self) -> TableCommitter:
        ground = self._ground
        return TableCommitter(
            ground.table,
            self._letters,
            self._to_consumer,
            ground.lake_thread,
            ground.clock,
            cluster_id=ground.cluster,
        )

    def _make_batcher(self) -> Batcher:
        config, ground = self._config, self._ground
        return Batcher(
            self._committer,
            ground.decoder,
            ground.decode_thread,
            FlushRule(int(config.flush_after_bytes), config.flush_after_s),
            ground.clock,
            lambda: self._agent.demanded,
            lambda levels: rule_under(
                levels, ground.policy, self._backfiller.spared, ground.clock.now_us()
            ),
            Bursts(BurstRule(config.burst_records)),
            self._to_consumer,
        )

    def _make_consumer(self) -> Consumer:
        config, ground = self._config, self._ground
        log_now = KafkaLog(config.kafka_bootstrap, f"{config.name}-log", ground.decoder)
        retention = partial(retention_of, config.kafka_bootstrap)
        return Consumer(
            self._to_consumer,
            self._membership.join,
            Placer(self._committer, log_now, cluster_id=ground.cluster),
            self._batcher,
            self._restraint,
            Holding(retention, ground.clock, config.probe_every_s),
            ConsumerOptions(hand_over_s=min(5.0, config.session_timeout_ms / 2000)),
        )

    def _make_agent(self) -> DegradationAgent:
        """All parts but the consumer go by `demanded` as it is whenever they begin something."""
        config = self._config
        return DegradationAgent(
            "writer",
            config.name,
            config.governor_address,
            self._own_report,
            lambda _: self._ticker.tick(),
            memory_limit_bytes=config.memory_limit_bytes,
            taken_in=self._restraint.taken_in,
            policy=self._ground.policy.version,
        )

    def _make_restarter(self) -> Restarter:
        config, ground, agent = self._config, self._ground, self._agent
        parts = Parts(agent, self._restraint, self._consumer, self._batcher, self._committer)
        return Restarter(
            Around(
                parts.sight,
                lambda: agent.demanded,
                self._restraint.go_on,
                self._restart_asked.set,
            ),
            PastRestarts(config.name, config.run_dir),
            ground.decode_thread,
            ground.clock,
            jitter_s=config.restart_jitter_s,
        )

    def _own_report(self) -> OwnReport:
        consumer, committer = self._consumer, self._committer
        report = own_report(
            self._config.group, consumer.view(), consumer.placed, committer.view.failures
        )
        return replace(report, restart_wanted=self._restarter.wanted)

    def _make_backfiller(self) -> Backfiller:
        config, ground = self._config, self._ground
        return Backfiller(
            self._committer,
            self._ledgers,
            BackfillReader(config.kafka_bootstrap, f"{config.name}-backfill"),
            ground.decoder,
            ground.decode_thread,
            LiveTraffic(self._consumer, self._batcher, self._agent).times,
            ground.clock,
            BackfillRules(
                config.backfill_limits,
                BurstRule(config.burst_records),
                ground.policy,
                config.probe_every_s,
            ),
        )

    def _servicers(self) -> list[Servicer]:
        writer = WriterServicer(
            self._config.name,
            self._consumer,
            self._batcher,
            self._committer,
            self._to_consumer,
            self._agent,
            LedgerCalls(self._ledgers, self._committer, self._ground.clock),
            self._maintainer,
            self._backfiller,
        )
        add_letters = dead_letters_pb2_grpc.add_DeadLetterServiceServicer_to_server
        return [
            (writer_pb2_grpc.add_WriterServiceServicer_to_server, writer, SERVICE),
            (add_letters, self._dead_letters, DEAD_LETTERS),
        ]

    async def _release(self) -> None:
        await self._letters.close()
        await self._stop_replays()
        self._maintainer.release()
        self._ledgers.release()
        self._ground.release()


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
        level=lambda: agent.demanded.level,
        committing=lambda: not committer.idle,
    )
    maintenance = Maintenance(
        lake, TRADES, config.maintenance_options, points=reach_sync, turn=table.turn
    )
    return Maintainer(maintenance, config.topics, around, config.maintenance_rhythm, SystemClock())
