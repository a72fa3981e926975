"""A real broker for a session of tests, and topics of a test's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import AIOKafkaProducer

from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_producer, stop_client
from libs.kafka.dead_letters import DEAD_LETTER_PARTITIONS
from libs.kafka.topics import dead_letter_topic
from tools.kafka.broker import LocalKafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the bootstrap address of a broker: K2_KAFKA_BOOTSTRAP's, or one started here."""
    elsewhere = os.environ.get("K2_KAFKA_BOOTSTRAP")
    if elsewhere:
        yield elsewhere
        return
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"))
    broker.start()
    try:
        yield broker.bootstrap
    finally:
        broker.stop()


@pytest.fixture
async def topic(kafka: str) -> str:
    """Give a new topic of 16 partitions, its dead-letter topic beside it."""
    name = f"market.crypto.trades.test-{uuid.uuid4().hex[:12]}"
    await ensure_topics(kafka, [name])
    await ensure_topics(kafka, [dead_letter_topic(name)], partitions=DEAD_LETTER_PARTITIONS)
    return name


@pytest.fixture
async def producer(kafka: str) -> AsyncIterator[AIOKafkaProducer]:
    """Give a producer, stopped after the test."""
    started = await start_producer(kafka, "test-producer")
    try:
        yield started
    finally:
        await stop_client(started)
