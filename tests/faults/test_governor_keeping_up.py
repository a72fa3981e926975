"""A writer that keeps up at full speed stays NORMAL, on real Kafka, with few large commits."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from k2.governor.v1 import governor_pb2 as pb

from tests.support.governor import Attached, attached, governor, state_at

# Three times SOFT in a second: what 300,000 records a second are to the default of 100,000.
RATE_PER_S = 3_000
LAG = {"K2_GOVERNOR_LAG_THRESHOLDS": "1000,5000,10000,50000", "K2_GOVERNOR_SAMPLE_EVERY_S": "0.3"}
# Every report is too old at once: what is left is what the group has committed.
BY_GAUGE = LAG | {"K2_GOVERNOR_REPORT_FRESH_S": "0.001"}
SECONDS = 10
STEP_S = 0.02


@pytest.mark.whole
async def test_writer_that_keeps_up_stays_normal_at_full_speed(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Its positions are told as the writer tells them: reported, and committed once a second.

    Beside it a governor that hears no report measures the same by the committed ones alone, and
    calls the same writer SOFT: the test would notice.
    """
    levels: dict[str, Counter[int]] = {"reports": Counter(), "gauge": Counter()}
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=topic, enable_auto_commit=False)
    with ExitStack() as stack:
        one, address = stack.enter_context(governor(kafka, topic, tmp_path / "one", LAG))
        apart = BY_GAUGE | {"K2_GOVERNOR_DIRECTIVES_TOPIC": f"{topic}.apart"}
        two, gauge = stack.enter_context(governor(kafka, topic, tmp_path / "two", apart))
        await one.serving()
        await two.serving()
        async with asyncio.timeout(60):
            await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, number) for number in range(16)])
            async with attached(address, topic) as writer, asyncio.TaskGroup() as tasks:
                working = tasks.create_task(_keep_up(producer, topic, writer))
                committing = tasks.create_task(_commit_each_second(consumer, writer))
                for _ in range(SECONDS * 5):
                    levels["reports"][await _level(address)] += 1
                    levels["gauge"][await _level(gauge)] += 1
                    await asyncio.sleep(0.2)
                working.cancel()
                committing.cancel()
        finally:
            await consumer.stop()
    assert set(levels["reports"]) == {pb.LEVEL_NORMAL}, levels
    assert max(levels["gauge"]) > pb.LEVEL_NORMAL, levels


async def _keep_up(producer: AIOKafkaProducer, topic: str, writer: Attached) -> None:
    """Produce at the rate, and decode each record as soon as the log has it."""
    loop, sent = asyncio.get_running_loop(), 0
    ends: Counter[int] = Counter()
    began_s = loop.time()
    while True:
        due = round((loop.time() - began_s) * RATE_PER_S)
        waits = [await producer.send(topic, b"x", partition=n % 16) for n in range(sent, due)]
        async with asyncio.timeout(60):
            await asyncio.gather(*waits)
        ends.update(n % 16 for n in range(sent, due))
        sent = due
        positions = {(topic, number): ends[number] for number in range(16)}
        writer.own = replace(writer.own, positions=positions)
        await asyncio.sleep(STEP_S)


async def _commit_each_second(consumer: AIOKafkaConsumer, writer: Attached) -> None:
    while True:
        positions = {TopicPartition(*p): offset for p, offset in writer.own.positions.items()}
        if positions:
            async with asyncio.timeout(60):
                await consumer.commit(positions)
        await asyncio.sleep(1.0)


async def _level(address: str) -> int:
    return (await state_at(address)).directive.level
