"""Topics and offsets as the broker tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from libs.kafka.client import start_admin, start_consumer, stop_client
from libs.kafka.deadline import deadline
from libs.kafka.topics import PARTITIONS, TOPIC_CONFIG
from libs.market.errors import ConfigError, NotFoundError, UnavailableError

ADMIN_TIMEOUT_S = 30.0
_POLL_S = 0.05
_REPLICAS = 3
RETENTION_CONFIGS = ("retention.ms", "retention.bytes")


async def ensure_topics(
    bootstrap: str,
    topics: Iterable[str],
    *,
    partitions: int = PARTITIONS,
    config: Mapping[str, str] = TOPIC_CONFIG,
    timeout_s: float = ADMIN_TIMEOUT_S,
) -> None:
    """Create the topics that are missing, and wait until each partition has a leader.

    Raises:
        UnavailableError: Kafka did not do it within `timeout_s`.
        ConfigError: a topic is there with another number of partitions.
    """
    names = sorted(set(topics))
    async with _admin(bootstrap, timeout_s) as admin:
        await _create(admin, names, partitions, dict(config))
        for name, found in (await _led_partitions(admin, names)).items():
            if found != partitions:
                raise ConfigError(
                    f"topic {name} has {found} partitions and K2 needs {partitions}:"
                    " move its records to a new topic",
                    topic=name,
                )


async def cluster_id(bootstrap: str, *, timeout_s: float = ADMIN_TIMEOUT_S) -> str:
    """Say which cluster this is: an offset means something in its own cluster alone."""
    async with _admin(bootstrap, timeout_s) as admin:
        described = await admin.describe_cluster()
        return str(described["cluster_id"])


async def members_of(
    bootstrap: str, group: str, *, timeout_s: float = ADMIN_TIMEOUT_S
) -> tuple[str, ...]:
    """Ask for the ids of a group's members. Raises UnavailableError: not told in `timeout_s`."""
    async with _admin(bootstrap, timeout_s) as admin:
        try:
            (answer,) = await admin.describe_consumer_groups([group])
            ((code, *_, members),) = (described[:6] for described in answer.groups)
            if code:
                raise for_code(code)
        except KafkaError as error:
            raise UnavailableError(f"Kafka does not tell of group {group}: {error}") from error
    return tuple(member[0] for member in members)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a topic keeps its records, and how many bytes of a partition; None for ever."""

    ms: int | None = None
    bytes: int | None = None


async def retention_of(
    bootstrap: str, topics: Iterable[str], *, timeout_s: float = ADMIN_TIMEOUT_S
) -> dict[str, Retention]:
    """Ask what the broker applies to each topic now.

    Raises:
        UnavailableError: Kafka did not answer in time.
    """
    wanted = [
        ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict.fromkeys(RETENTION_CONFIGS))
        for topic in topics
    ]
    async with _admin(bootstrap, timeout_s) as admin:
        described = await admin.describe_configs(wanted)
    return {
        name: Retention(*(_limit(entries, config) for config in RETENTION_CONFIGS))
        for response in described
        for code, _, _, name, entries in response.resources
        if not code
    }


def _limit(entries: Iterable[Sequence[object]], name: str) -> int | None:
    """Find one setting among (name, value, ...); -1 is none."""
    value = next((int(str(entry[1])) for entry in entries if entry[0] == name), -1)
    return value if value >= 0 else None


async def begin_offsets(
    source: str | AIOKafkaConsumer, topic: str, *, timeout_s: float = ADMIN_TIMEOUT_S
) -> dict[int, int]:
    """Return the first offset still in the log, by partition.

    Raises:
        NotFoundError: there is no such topic.
        UnavailableError: Kafka did not answer in time.
    """
    complaint = f"Kafka did not tell where {topic} begins"
    async with deadline(complaint, timeout_s), _consumer(source) as consumer:
        offsets = await consumer.beginning_offsets(await _partitions(consumer, topic))
    return _by_partition(offsets)


async def end_offsets(
    source: str | AIOKafkaConsumer, topic: str, *, timeout_s: float = ADMIN_TIMEOUT_S
) -> dict[int, int]:
    """Return the offset after the last committed record, by partition; errors as begin_offsets."""
    complaint = f"Kafka did not tell where {topic} ends"
    async with deadline(complaint, timeout_s), _consumer(source) as consumer:
        offsets = await consumer.end_offsets(await _partitions(consumer, topic))
    return _by_partition(offsets)


@asynccontextmanager
async def _admin(bootstrap: str, timeout_s: float) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = await start_admin(bootstrap, "k2-admin", timeout_s=timeout_s)
    try:
        async with deadline(f"Kafka at {bootstrap} did not do as asked", timeout_s):
            yield admin
    finally:
        await stop_client(admin)


@asynccontextmanager
async def _consumer(source: str | AIOKafkaConsumer) -> AsyncIterator[AIOKafkaConsumer]:
    if isinstance(source, AIOKafkaConsumer):
        yield source
        return
    consumer = await start_consumer(source, "k2-offsets")
    try:
        yield consumer
    finally:
        await stop_client(consumer)


async def _create(
    admin: AIOKafkaAdminClient, names: list[str], partitions: int, config: dict[str, str]
) -> None:
    brokers = len((await admin.describe_cluster())["brokers"])
    replicas = min(_REPLICAS, brokers)
    wanted = [NewTopic(name, partitions, replicas, topic_configs=config) for name in names]
    response = await admin.create_topics(wanted)
    for _, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(*message)


async def _led_partitions(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """Count partitions once every one of them has a leader."""
    while True:
        topics = await admin.describe_topics(names)
        leaders = [partition["leader"] for topic in topics for partition in topic["partitions"]]
        if leaders and min(leaders) >= 0 and all(topic["partitions"] for topic in topics):
            return {topic["topic"]: len(topic["partitions"]) for topic in topics}
        await asyncio.sleep(_POLL_S)


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    if consumer.partitions_for_topic(topic) is None:
        if topic not in await consumer.topics():
            raise NotFoundError(f"there is no topic {topic}", topic=topic)
        # Asking for an offset is the public way to make a consumer track a topic.
        await consumer.end_offsets([TopicPartition(topic, 0)])
    partitions = consumer.partitions_for_topic(topic) or set()
    return [TopicPartition(topic, partition) for partition in sorted(partitions)]


def _by_partition(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    return {partition.partition: offset for partition, offset in offsets.items()}
