"""Kafka dies, forgets, or holds another log under the same name."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_producer, stop_client
from libs.kafka.dead_letters import DEAD_LETTER_PARTITIONS
from libs.kafka.send import send_values
from libs.kafka.topics import dead_letter_topic
from libs.lake.commits.seam import TopicPartition as Position
from libs.lake.table.tables import bucket_of, ensure_trades
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import register_trades
from tests.support.evidence import Log, evidence_of, prove
from tests.support.flow import Flow, encoded
from tests.support.oracle import tally
from tests.support.polling import eventually
from tests.support.processes import arm, disarm
from tests.support.writer import Writing, counted, status
from tools.kafka.broker import LocalKafka

TOPIC = "market.crypto.trades.own-broker"
OVERSIZED = b"\x00" * 900_000


@pytest.fixture
async def own_kafka(tmp_path: Path) -> AsyncIterator[LocalKafka]:
    """Give a broker that the test may harm, with the topics made."""
    async with LocalKafka(tmp_path / "kafka") as broker:
        await ensure_topics(broker.bootstrap, [TOPIC])
        letters = dead_letter_topic(TOPIC)
        await ensure_topics(broker.bootstrap, [letters], partitions=DEAD_LETTER_PARTITIONS)
        yield broker


def stopped_in_order(broker: LocalKafka) -> None:
    broker.stop()


def killed(broker: LocalKafka) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    broker.stop()


@pytest.mark.whole
@pytest.mark.parametrize("end", [killed, stopped_in_order])
async def test_a_broker_that_ends_and_starts_again_loses_nothing(
    own_kafka: LocalKafka, tmp_path: Path, end: Callable[[LocalKafka], None]
) -> None:
    """With records fetched, a commit under way, and a producer in the middle of its work."""
    schema_id = register_trades(SchemaRegistry(tmp_path / "schemas.json"), TOPIC)
    writing = Writing(own_kafka.bootstrap, TOPIC, tmp_path, schema_id)
    ensure_trades(writing.lake)
    producer = await start_producer(own_kafka.bootstrap, "test")
    flow = Flow(writing, producer)
    point = "writer.after_upload"
    with writing.writer() as writer:
        await flow.send()
        await flow.committed()
        arm(writing.fault_dir, point)
        await flow.send()
        writer.reached(point, writing.fault_dir)
        await asyncio.to_thread(end, own_kafka)
        disarm(writing.fault_dir, point)
        await asyncio.to_thread(own_kafka.start)
        await flow.send()
        await flow.committed()
        assert writer.alive
    await stop_client(producer)
    await prove(writing)


async def test_what_retention_took_from_a_stopped_writer_is_lost_in_the_ledger(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Recorded by its range, and everything after it is stored."""
    flow, log = Flow(writing, producer), Log(writing.bootstrap, writing.topic)
    partition = bucket_of("BTCUSDT")
    with writing.writer() as writer:
        await flow.send()
        await flow.committed()
        stored_to = flow.ends[partition]
        assert writer.stop() == 0
        await flow.send()
        await log.read()
        await delete_before(writing, partition, stored_to + 300)
        writer.restart()
        await flow.send()
        await flow.committed()
        await counted(writer, lost_records=300)
    evidence = await prove(writing, log)
    lost = evidence.ledger.book(Position(writing.topic, partition)).lost
    assert [(one.start, one.end) for one in lost] == [(stored_to, stored_to + 300)]
    assert tally(evidence)["lost"] == 300


@pytest.mark.whole
async def test_what_contradicted_a_trade_that_is_lost_is_stored_for_it(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """The writer that had both in hand wrote a letter of it, and was killed before its commit."""
    flow, log = Flow(writing, producer, symbols=("BTCUSDT",)), Log(writing.bootstrap, writing.topic)
    partition, point = bucket_of("BTCUSDT"), "writer.after_dead_letters"
    with writing.writer() as writer:
        await flow.send()
        await flow.committed()
        arm(writing.fault_dir, point)
        first = flow.ends[partition]
        both = [price(writing, 0), price(writing, 1_000)]
        await send_values(producer, writing.topic, partition, [b"BTCUSDT"] * 2, both)
        flow.ends[partition] = first + 2
        writer.reached(point, writing.fault_dir)
        writer.kill()
        await log.read()
        await delete_before(writing, partition, first + 1)
        disarm(writing.fault_dir, point)
        writer.restart()
        await flow.committed()
    evidence = await prove(writing, log)
    assert {"topic": writing.topic, "partition": partition, "offset": first + 1} in (
        evidence.letters.to_pylist()
    )
    assert first + 1 in evidence.stored["offset"].to_pylist()


def price(writing: Writing, more_by: int) -> bytes:
    """Return a trade that nobody sent, at one price or another."""
    return encoded("BTCUSDT", np.array([900_000]), writing.schema_id, more_by=more_by)[0]


@pytest.mark.whole
async def test_a_log_truncated_under_a_writer_s_hands_is_lost_no_further_than_it_must(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """What it had fetched is stored though the log has lost it; the rest is recorded."""
    flow, log = Flow(writing, producer), Log(writing.bootstrap, writing.topic)
    partition = bucket_of("BTCUSDT")
    point = "writer.after_upload"
    with writing.writer() as writer:
        await flow.send()
        await flow.committed()
        arm(writing.fault_dir, point)
        await flow.send()
        writer.reached(point, writing.fault_dir)
        await log.read()
        await delete_before(writing, partition, flow.ends[partition] - 1)
        disarm(writing.fault_dir, point)
        await flow.send()
        await flow.committed()
    await prove(writing, log)


@pytest.mark.whole
async def test_poison_and_oversized_records_are_set_aside_among_trades(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Every one of them is a dead letter, and every trade around them is stored."""
    flow = Flow(writing, producer, junk=20)
    with writing.writer() as writer:
        for _ in range(3):
            await flow.send(300)
            for partition in (bucket_of("BTCUSDT"), bucket_of("BNBUSDT")):
                await producer.send_and_wait(
                    writing.topic, OVERSIZED, key=b"BTCUSDT", partition=partition
                )
                flow.ends[partition] += 1
        await flow.committed()
        assert writer.alive
    evidence = await prove(writing)
    fates = tally(evidence)
    assert fates["dead-lettered"] >= 3 * (20 * len(flow.symbols) + 2)
    assert fates["stored"] == sum(flow.sent.values())


@pytest.mark.whole
@pytest.mark.parametrize("rows", [100, 3_000], ids=["shorter", "longer"])
async def test_a_topic_made_anew_under_a_running_writer_is_not_taken_for_the_old_one(
    writing: Writing, producer: AIOKafkaProducer, rows: int
) -> None:
    """Not one row of the other log gets into the table, and the status says why."""
    flow = Flow(writing, producer, symbols=("BTCUSDT",))
    with writing.writer() as writer:
        await flow.send(1_000)
        await flow.committed()
        await make_anew(writing)
        other = await start_producer(writing.bootstrap, "another-log")
        foreign = Flow(writing, other, symbols=("BTCUSDT",), sent={"BTCUSDT": 500_000})
        await foreign.send(rows)
        await stop_client(other)

        async def refused() -> bool:
            return "another log" in (await status(writer)).stopped_because

        await eventually(refused, 60, what="refusal")
        evidence = await evidence_of(writing)
    assert set(evidence.stored["sequence"].to_pylist()) <= set(range(1_000))


async def delete_before(writing: Writing, partition: int, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=writing.bootstrap)
    await admin.start()
    try:
        place = TopicPartition(writing.topic, partition)
        await admin.delete_records({place: RecordsToDelete(offset)})
    finally:
        await admin.close()


async def make_anew(writing: Writing) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=writing.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([writing.topic])
    finally:
        await admin.close()
    await ensure_topics(writing.bootstrap, [writing.topic])
