"""Records that are no trades wait in `<topic>.dlq`, with their reason and their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiokafka import AIOKafkaProducer

from libs.kafka.admin import ensure_topics
from libs.kafka.client import START_TIMEOUT_S, stop_client
from libs.kafka.dead_letters import DEAD_LETTER_PARTITIONS, DeadLetter, publish
from libs.kafka.deadline import deadline, unreachable
from libs.kafka.topics import TOPIC_CONFIG, dead_letter_topic
from services.writer.buffer import Part

# Any record that its own topic took (1 MiB by Kafka's default) fits, with its reason around it.
MAX_LETTER_BYTES = 2 * 1024 * 1024
MAX_RAW_BYTES = MAX_LETTER_BYTES - 64 * 1024


async def ensure_dead_letter_topics(bootstrap: str, topics: Iterable[str]) -> None:
    """Create what is missing. Raises UnavailableError, ConfigError."""
    await ensure_topics(
        bootstrap,
        map(dead_letter_topic, topics),
        partitions=DEAD_LETTER_PARTITIONS,
        config={**TOPIC_CONFIG, "max.message.bytes": str(MAX_LETTER_BYTES)},
    )


class KafkaDeadLetters:
    """Sends dead letters; connects with the first one, for most writers never have any."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None

    async def send(self, parts: tuple[Part, ...]) -> None:
        """Send what was rejected and wait until Kafka has it. Raises UnavailableError."""
        letters = [letter for part in parts for letter in letters_of(part)]
        if letters:
            await publish(await self._started(), letters)

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


def letters_of(part: Part) -> Iterator[DeadLetter]:
    """Turn a part's rejected records into letters; one too long for Kafka keeps its beginning."""
    topic, partition = part.partition
    for rejected in part.rejected:
        cut = len(rejected.raw) - MAX_RAW_BYTES
        detail = f"{rejected.detail} (last {cut} bytes cut off)" if cut > 0 else rejected.detail
        yield DeadLetter(
            topic,
            partition,
            rejected.offset,
            rejected.reason.value,
            detail,
            rejected.raw[:MAX_RAW_BYTES],
        )
