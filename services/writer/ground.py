"""What the writer stands on: opened and checked before any actor is made."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from libs.degradation.policy import PriorityPolicy, load_policy
from libs.kafka.admin import cluster_id, ensure_topics
from libs.kafka.dead_letters import ensure_dead_letter_topics
from libs.lake.table.catalog import Lake, open_lake
from libs.lake.table.tables import ensure_trades
from libs.market.clock import Clock, SystemClock
from libs.market.errors import ConfigError
from libs.runtime.faultpoint import reach_sync
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import TradeDecoder
from services.writer.commits.lake import TradesTable
from services.writer.commits.reencoding import Reencoder
from services.writer.config import WriterConfig
from services.writer.intake.placing import another_cluster
from services.writer.messages import TableState


@dataclass(frozen=True, slots=True)
class Ground:
    """Table, log and policy, and the threads for what blocks."""

    policy: PriorityPolicy
    lake: Lake
    table: TradesTable
    cluster: str
    decoder: TradeDecoder
    lake_thread: ThreadPoolExecutor
    decode_thread: ThreadPoolExecutor
    clock: Clock = field(default_factory=SystemClock)

    def release(self) -> None:
        for thread in (self.decode_thread, self.lake_thread):
            thread.shutdown(wait=False)


async def ground_of(config: WriterConfig) -> Ground:
    """Open and check what the writer stands on.

    Raises:
        UnavailableError: Kafka or the catalog is not there.
        ConfigError: the table belongs to another Kafka cluster, or is not K2's; or the priority
            policy is wrong.
    """
    policy = load_policy(config.priority_policy)
    lake_thread = ThreadPoolExecutor(1, thread_name_prefix="lake")
    loop = asyncio.get_running_loop()
    lake = await loop.run_in_executor(lake_thread, open_table, config)
    registry = SchemaRegistry(config.schema_registry)
    table = TradesTable(lake, Reencoder(registry), config.maintenance_options)
    cluster = await prepare_kafka(config)
    refuse_other_cluster(await loop.run_in_executor(lake_thread, table.state), cluster)
    return Ground(
        policy,
        lake,
        table,
        cluster,
        TradeDecoder(registry, coded=True),
        lake_thread,
        ThreadPoolExecutor(1, thread_name_prefix="decode"),
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
