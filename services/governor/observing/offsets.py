"""Lag as Kafka tells it: log ends, and the decoded positions that the groups commit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from libs.degradation.messages import Partition
from libs.kafka.admin import begin_offsets, end_offsets
from libs.kafka.client import start_admin, start_consumer, stop_client
from libs.kafka.deadline import deadline
from libs.market.errors import NotFoundError, UnavailableError
from services.governor.observing.lag import LogBounds, Look

CLIENT_ID = "k2-governor"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 2.0
# After each failure in a row all waits are twice as long: a Kafka that answers slowly, as one that
# has just begun, would else be left and found anew for ever.
MOST_SLACK = 4.0
# Retention moves a log's start rarely, and only a group without a position needs it exactly.
BEGINS_EVERY_S = 10.0
# As often as writers commit them: they stand in for reports, and cost more than the ends do.
COMMITTED_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Offsets:
    """One look at Kafka. A topic that is not there has no partitions; a group may know none."""

    look: Look
    committed: Mapping[str, Mapping[Partition, int]]


class KafkaOffsets:
    """Reads offsets over two connections that open when they are needed.

    Any failure closes them: the next read begins anew, so a Kafka that comes back is found.
    """

    def __init__(self, bootstrap: str, groups: Iterable[str], topics: Iterable[str]) -> None:
        self._bootstrap = bootstrap
        self._groups, self._topics = tuple(groups), tuple(topics)
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._begins: dict[str, dict[int, int]] = {}
        self._begins_read_s = float("-inf")
        self._coordinators: dict[str, int] = {}
        self._committed: dict[str, dict[Partition, int]] = {}
        self._committed_of: tuple[Partition, ...] = ()
        self._committed_read_s = float("-inf")
        self._slack = 1.0

    async def read(self) -> Offsets:
        """Look now.

        Raises:
            UnavailableError: Kafka did not tell everything in time.
        """
        try:
            consumer, admin = await self._connected()
            bounds = await self._bounds(consumer)
            look = Look(time.monotonic(), bounds)
            await self._follow_committed(admin, tuple(bounds))
        except UnavailableError:
            await self.close()
            self._slack = min(MOST_SLACK, 2 * self._slack)
            raise
        self._slack = 1.0
        return Offsets(look, self._committed)

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        self._coordinators.clear()
        self._committed_read_s = float("-inf")
        for client in (consumer, admin):
            if client is not None:
                with suppress(UnavailableError):
                    await stop_client(client, timeout_s=READ_TIMEOUT_S)

    @property
    def _read_timeout_s(self) -> float:
        return READ_TIMEOUT_S * self._slack

    async def _connected(self) -> tuple[AIOKafkaConsumer, AIOKafkaAdminClient]:
        if self._consumer is None:
            self._consumer = await start_consumer(
                self._bootstrap, CLIENT_ID, timeout_s=CONNECT_TIMEOUT_S * self._slack
            )
        if self._admin is None:
            self._admin = await start_admin(
                self._bootstrap, CLIENT_ID, timeout_s=CONNECT_TIMEOUT_S * self._slack
            )
        return self._consumer, self._admin

    async def _bounds(self, consumer: AIOKafkaConsumer) -> dict[Partition, LogBounds]:
        now_s = time.monotonic()
        if now_s - self._begins_read_s > BEGINS_EVERY_S:
            self._begins, self._begins_read_s = {}, now_s
        bounds: dict[Partition, LogBounds] = {}
        for topic in self._topics:
            with suppress(NotFoundError):
                bounds |= await self._bounds_of(consumer, topic)
        return bounds

    async def _bounds_of(
        self, consumer: AIOKafkaConsumer, topic: str
    ) -> dict[Partition, LogBounds]:
        if topic not in self._begins:
            self._begins[topic] = await begin_offsets(
                consumer, topic, timeout_s=self._read_timeout_s
            )
        begins = self._begins[topic]
        ends = await end_offsets(consumer, topic, timeout_s=self._read_timeout_s)
        return {(topic, p): LogBounds(begins.get(p, 0), end) for p, end in ends.items()}

    async def _follow_committed(
        self, admin: AIOKafkaAdminClient, partitions: tuple[Partition, ...]
    ) -> None:
        now_s = time.monotonic()
        due = now_s - self._committed_read_s >= COMMITTED_EVERY_S
        if due or partitions != self._committed_of:
            self._committed = {g: await self._ask(admin, g, partitions) for g in self._groups}
            self._committed_of, self._committed_read_s = partitions, now_s

    async def _ask(
        self, admin: AIOKafkaAdminClient, group: str, partitions: tuple[Partition, ...]
    ) -> dict[Partition, int]:
        wanted = [TopicPartition(*partition) for partition in partitions]
        async with deadline(f"Kafka did not tell the offsets of {group}", self._read_timeout_s):
            # Also without a topic: a new broker takes seconds to have a coordinator at all, and
            # the first records should not meet a governor that cannot read their lag.
            coordinator = await self._coordinator(admin, group)
            if not wanted:
                return {}
            found = await admin.list_consumer_group_offsets(group, coordinator, wanted)
        # aiokafka does not look at the answer's own error code, only at each partition's: a
        # coordinator that is still loading answers with no partitions at all.
        if len(found) < len(wanted):
            raise UnavailableError(f"Kafka did not tell every offset of {group}", group=group)
        return {(tp.topic, tp.partition): at.offset for tp, at in found.items() if at.offset >= 0}

    async def _coordinator(self, admin: AIOKafkaAdminClient, group: str) -> int:
        """Ask once for each pair of connections: one that has moved answers with an error."""
        if group not in self._coordinators:
            self._coordinators[group] = await admin.find_coordinator(group)
        return self._coordinators[group]
