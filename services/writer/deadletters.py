"""Records that are no trades wait in `<topic>.dlq`, with their reason and their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer

from libs.kafka.admin import ensure_topics
from libs.kafka.client import stop_client
from libs.kafka.deadline import deadline, unreachable
from libs.kafka.topics import TOPIC_CONFIG, dead_letter_topic
from libs.wire.trades import Rejected
from services.writer.buffer import Part
from services.writer.positions import Partition

# A record as large as its topic takes must fit with its reason around it.
MAX_LETTER_BYTES = 2 * 1024 * 1024
SEND_TIMEOUT_S = 30.0
START_TIMEOUT_S = 15.0


async def ensure_dead_letter_topics(bootstrap: str, topics: Iterable[str]) -> None:
    """Create what is missing. Raises UnavailableError, ConfigError."""
    config = {**TOPIC_CONFIG, "max.message.bytes": str(MAX_LETTER_BYTES)}
    await ensure_topics(bootstrap, map(dead_letter_topic, topics), config=config)


class KafkaDeadLetters:
    """Sends dead letters; connects with the first one, for most writers never have any."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None

    async def send(self, parts: tuple[Part, ...]) -> None:
        """Send what was rejected and wait until Kafka has it. Raises UnavailableError."""
        letters = [(part.partition, r) for part in parts for r in part.rejected]
        if not letters:
            return
        producer = await self._started()
        async with deadline(f"Kafka did not take {len(letters)} dead letters", SEND_TIMEOUT_S):
            sent = [await send_one(producer, partition, r) for partition, r in letters]
            await asyncio.gather(*sent)

    async def close(self) -> None:
        if self._producer is not None:
            await stop_client(self._producer)

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                client_id=self._client_id,
                enable_idempotence=True,
                acks="all",
                max_request_size=MAX_LETTER_BYTES,
            )
            async with deadline(unreachable(self._bootstrap), START_TIMEOUT_S):
                await producer.start()
            self._producer = producer
        return self._producer


async def send_one(
    producer: AIOKafkaProducer, partition: Partition, rejected: Rejected
) -> asyncio.Future[object]:
    """Queue one dead letter; its key names the record for readers, who go by the set of keys."""
    topic, number = partition
    acknowledged: asyncio.Future[object] = await producer.send(
        dead_letter_topic(topic),
        value=rejected.raw,
        key=f"{topic}/{number}/{rejected.offset}".encode(),
        partition=number,
        headers=[
            ("k2.reason", rejected.reason.value.encode()),
            ("k2.detail", rejected.detail[:1000].encode()),
        ],
    )
    return acknowledged
