"""A consumer can be made to ask for less at a time while it runs."""

from __future__ import annotations

from random import Random

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from libs.kafka.client import start_consumer, stop_client
from libs.kafka.fetching import fetch_a_share

RECORDS = 64
# Random, for the producer compresses.
RECORD = Random(7).randbytes(16 * 1024)


async def first_fetch(kafka: AIOKafkaConsumer, tp: TopicPartition) -> int:
    """Return how many records the first response from the start holds."""
    kafka.seek(tp, 0)
    for _ in range(300):
        found = await kafka.getmany(timeout_ms=200)
        if found:
            return len(found[tp])
    raise AssertionError("nothing was fetched")


async def test_a_share_of_what_it_asked_for_before(
    kafka: str, topic: str, producer: AIOKafkaProducer
) -> None:
    """An eighth of 512 KiB, and all of it again; what was fetched before is sought anew."""
    for _ in range(RECORDS):
        # One batch each, for a broker gives no half of one.
        await producer.send_and_wait(topic, RECORD, partition=3)
    tp = TopicPartition(topic, 3)
    consumer = await start_consumer(kafka, "shares", max_partition_fetch_bytes=512 * 1024)
    try:
        fetch_a_share(consumer, 8)
        consumer.assign([tp])
        assert 1 <= await first_fetch(consumer, tp) <= 4
        fetch_a_share(consumer, 1)
        assert await first_fetch(consumer, tp) > 16
    finally:
        await stop_client(consumer)
