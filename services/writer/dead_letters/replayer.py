"""Sends dead letters to their topic once more, and says so in the dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata
from prometheus_client import Counter

from libs.kafka.dead_letters import REPLAYED, DeadLetter
from libs.kafka.deadline import deadline
from libs.market.clock import Clock
from libs.wire.rejection import Rejected
from libs.wire.trades import TradeDecoder
from services.writer.dead_letters.replay import why_never, why_not
from services.writer.dead_letters.sending import KafkaDeadLetters

log = structlog.get_logger()

REPLAYED_LETTERS = Counter("k2_writer_replayed_letters", "Dead letters sent to their topic again")
SEND_TIMEOUT_S = 30.0
MOST_REFUSALS = 100
AT_ONCE = 500
AT_ONCE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manner:
    """How to replay: only say what would be done; send also what will come back."""

    dry_run: bool = False
    force: bool = False


@dataclass(slots=True)
class Replayed:
    """A replay so far: how many were sent, why others were not, and what waits to be sent."""

    manner: Manner
    sent: int = 0
    refused: int = 0
    refusals: dict[str, str] = field(default_factory=dict)
    topic: str = ""
    waiting: list[DeadLetter] = field(default_factory=list)

    def refuse(self, key: str, why: str) -> None:
        self.refused += 1
        if len(self.refusals) < MOST_REFUSALS:
            self.refusals[key] = why

    @property
    def is_full(self) -> bool:
        size_bytes = sum(len(letter.raw) for letter in self.waiting)
        return len(self.waiting) >= AT_ONCE or size_bytes >= AT_ONCE_BYTES


class Replayer:
    """Sends letters in the order they were dead-lettered.

    A letter is marked after it was sent: where the mark is lost it may be sent twice, and the
    writer drops the second by its id.
    """

    def __init__(
        self, decoder: TradeDecoder, executor: Executor, letters: KafkaDeadLetters, clock: Clock
    ) -> None:
        self._decoder = decoder
        self._executor = executor
        self._letters = letters
        self._clock = clock

    async def judge(self, topic: str, letters: Sequence[DeadLetter]) -> Mapping[str, str]:
        """Say of each letter that would not be stored why, by its key."""
        decode = asyncio.get_running_loop().run_in_executor
        rejected = await decode(self._executor, self._rejected, topic, [x.raw for x in letters])
        judged = {
            letter.key.decode(): why_never(letter, topic) or why_not(letter, rejected.get(at))
            for at, letter in enumerate(letters)
        }
        return {key: why for key, why in judged.items() if why}

    async def add(self, topic: str, letter: DeadLetter, done: Replayed) -> None:
        """Send a letter of a replay, together with others. Raises UnavailableError."""
        if topic != done.topic or done.is_full:
            await self.finish(done)
        done.topic = topic
        done.waiting.append(letter)

    async def finish(self, done: Replayed) -> None:
        """Send what waits: what will be stored, or with force all that can be sent."""
        topic, letters = done.topic, done.waiting
        done.waiting = []
        if not letters:
            return
        refused = await self.judge(topic, letters)
        never = {x.key.decode(): why_never(x, topic) for x in letters}
        chosen = []
        for letter in letters:
            key = letter.key.decode()
            if never[key] or (key in refused and not done.manner.force):
                done.refuse(key, never[key] or refused[key])
            else:
                chosen.append(letter)
        if chosen and not done.manner.dry_run:
            await self._send(topic, chosen)
        done.sent += len(chosen)

    async def _send(self, topic: str, letters: Sequence[DeadLetter]) -> None:
        producer = await self._letters.producer()
        async with deadline(f"Kafka did not take {len(letters)} replayed records", SEND_TIMEOUT_S):
            sent = [await send_again(producer, topic, letter) for letter in letters]
            places = await asyncio.gather(*sent)
        marks = [
            marked(letter, place.offset, self._clock.now_us())
            for letter, place in zip(letters, places, strict=True)
        ]
        await self._letters.publish(marks)
        REPLAYED_LETTERS.inc(len(letters))
        log.info("dead_letters_replayed", topic=topic, records=len(letters))

    def _rejected(self, topic: str, values: Sequence[bytes]) -> dict[int, Rejected]:
        """Decode values as the batcher would, by place. Blocking."""
        places = range(len(values))
        decoded = self._decoder.decode(values, topic=topic, partition=0, offsets=list(places))
        return {one.offset: one for one in decoded.rejected}


async def send_again(
    producer: AIOKafkaProducer, topic: str, letter: DeadLetter
) -> asyncio.Future[RecordMetadata]:
    """Send a record as it came: its bytes, its key, its partition."""
    sending: asyncio.Future[RecordMetadata] = await producer.send(
        topic,
        value=letter.raw,
        key=letter.symbol.encode() or None,
        partition=letter.partition,
        headers=[("replayed_from", letter.key)],
    )
    return sending


def marked(letter: DeadLetter, offset: int, now_us: int) -> DeadLetter:
    """Return the record that marks a letter as sent again, under the same key."""
    return replace(
        letter,
        reason=REPLAYED,
        detail=f"sent again as offset {offset}",
        raw=b"",
        time_us=now_us,
        size_bytes=0,
    )
