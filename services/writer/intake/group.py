"""Membership in the consumer group that shares the partitions between writers."""

from __future__ import annotations

from contextlib import suppress

from aiokafka import AIOKafkaConsumer

from libs.kafka.client import stop_client
from libs.kafka.deadline import deadline, unreachable
from libs.kafka.runs import deliver_runs
from libs.market.errors import UnavailableError
from libs.runtime.faultpoint import reach
from services.writer.config import WriterConfig
from services.writer.intake.rebalance import Rebalance

START_TIMEOUT_S = 15.0
# All partitions' shares of one response; together with the buffers this bounds memory.
FETCH_MAX_BYTES = 16 * 1024 * 1024
FETCH_MIN_BYTES = 64 * 1024
MAX_POLL_INTERVAL_MS = 60_000
# A writer whose topic is deleted has no partitions until it looks again: aiokafka's 5 minutes are
# long to say nothing, and to read nothing, once the topic is there anew.
METADATA_MAX_AGE_MS = 10_000


async def join(config: WriterConfig, rebalance: Rebalance) -> AIOKafkaConsumer:
    """Join the group, without waiting for an assignment. Raises UnavailableError."""
    await reach("writer.before_join")
    consumer = AIOKafkaConsumer(
        bootstrap_servers=config.kafka_bootstrap,
        # No name of a group instance can look like this.
        client_id=f"writer:{config.name}",
        group_id=config.group,
        group_instance_id=config.group_instance or None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=int(config.fetch_bytes),
        fetch_max_bytes=FETCH_MAX_BYTES,
        # Freshness is the tail's, so the broker may gather: fewer polls, fewer, larger batches.
        fetch_min_bytes=FETCH_MIN_BYTES,
        fetch_max_wait_ms=200,
        session_timeout_ms=config.session_timeout_ms,
        heartbeat_interval_ms=config.heartbeat_ms,
        max_poll_interval_ms=max(MAX_POLL_INTERVAL_MS, config.session_timeout_ms),
        rebalance_timeout_ms=config.session_timeout_ms,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
    )
    try:
        async with deadline(unreachable(config.kafka_bootstrap), START_TIMEOUT_S):
            await consumer.start()
            deliver_runs(consumer)
            rebalance.attach(consumer)
            consumer.subscribe(topics=list(config.topics), listener=rebalance)
    except BaseException:
        # A cancelled start too leaves connections behind, and the first error is the one to tell.
        with suppress(UnavailableError):
            await stop_client(consumer)
        raise
    return consumer
