"""Records that are no trades wait in `<topic>.dlq`, with their reason and their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiokafka import AIOKafkaProducer

from libs.kafka.client import start_client, stop_client
from libs.kafka.dead_letters import MAX_LETTER_BYTES, DeadLetter, publish
from libs.market.clock import Clock
from libs.wire.framing import unframe
from libs.wire.rejection import RejectedError
from services.writer.batching.buffer import Part

MAX_RAW_BYTES = MAX_LETTER_BYTES - 64 * 1024


class KafkaDeadLetters:
    """Sends dead letters; connects with the first one, for most writers never have any."""

    def __init__(self, bootstrap: str, writer: str, clock: Clock) -> None:
        self._bootstrap = bootstrap
        self._writer = writer
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None

    async def send(self, parts: tuple[Part, ...]) -> None:
        """Send what was rejected and wait until Kafka has it. Raises UnavailableError."""
        now_us = self._clock.now_us()
        letters = [x for part in parts for x in letters_of(part, self._writer, now_us)]
        if letters:
            await self.publish(letters)

    async def publish(self, letters: Sequence[DeadLetter]) -> None:
        """Write letters and wait until Kafka has them. Raises UnavailableError."""
        await publish(await self.producer(), letters)

    async def close(self) -> None:
        if self._producer is not None:
            await stop_client(self._producer)

    async def producer(self) -> AIOKafkaProducer:
        """Connect, with the first who asks. Raises UnavailableError."""
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                client_id=f"{self._writer}-dead-letters",
                enable_idempotence=True,
                acks="all",
                max_request_size=MAX_LETTER_BYTES,
            )
            await start_client(producer, self._bootstrap)
            self._producer = producer
        return self._producer


def letters_of(part: Part, writer: str, now_us: int) -> Iterator[DeadLetter]:
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
            rejected.symbol,
            writer,
            now_us,
            schema_id_of(rejected.raw),
            len(rejected.raw),
        )


def schema_id_of(raw: bytes) -> int | None:
    """Return the schema id in a record's framing, None where it has none."""
    try:
        return unframe(raw)[0]
    except RejectedError:
        return None
