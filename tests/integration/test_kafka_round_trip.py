from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

from libs.kafka import dead_letters
from libs.kafka.admin import begin_offsets, cluster_id, end_offsets, ensure_topics
from libs.kafka.client import start_admin, start_consumer, start_producer, stop_client
from libs.kafka.dead_letters import DeadLetter
from libs.kafka.send import MAX_RECORD_BYTES, RecordTooLargeError, send_values
from libs.kafka.topics import PARTITIONS, dead_letter_topic
from libs.market.bucket import bucket_of
from libs.market.errors import ConfigError, NotFoundError, UnavailableError
from libs.wire.framing import frame
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import Reason, TradeDecoder, encode_trade, register_trades
from tests.support.wire import a_trade, trades_of

SYMBOL = "BTCUSDT"
PARTITION = bucket_of(SYMBOL)
NOBODY = "127.0.0.1:1"


@pytest.fixture
async def consumer(kafka: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a consumer at the start of the partition of BTCUSDT."""
    started = await start_consumer(kafka, "test-consumer")
    where = TopicPartition(topic, PARTITION)
    started.assign([where])
    started.seek(where, 0)
    try:
        yield started
    finally:
        await stop_client(started)


async def read(consumer: AIOKafkaConsumer, count: int) -> list[ConsumerRecord]:
    records: list[ConsumerRecord] = []
    async with asyncio.timeout(60):
        while len(records) < count:
            for fetched in (await consumer.getmany(timeout_ms=200)).values():
                records += fetched
    return records


async def test_trades_come_back_and_bad_records_are_told_apart(
    tmp_path: Path, topic: str, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer
) -> None:
    """Good trades around an empty record, an unknown schema id and garbage are all there."""
    registry = SchemaRegistry(tmp_path / "schemas.json")
    schema_id = register_trades(registry, topic)
    trades = [a_trade(source_sequence=n, trade_id=str(n)) for n in range(2_000)]
    values = [encode_trade(trade, schema_id) for trade in trades]
    values[5:5] = [b"", frame(99, values[0][6:]), frame(schema_id, b"\x0b"), b"hello"]

    await send_values(producer, topic, PARTITION, [SYMBOL.encode()] * len(values), values)
    records = await read(consumer, len(values))
    found = TradeDecoder(registry).decode(
        [record.value for record in records],
        topic=topic,
        partition=PARTITION,
        offsets=[record.offset for record in records],
    )

    assert [record.offset for record in records] == list(range(len(values)))
    assert {record.timestamp_type for record in records} == {1}, "the log's own time"
    assert trades_of(found.batch) == trades
    assert [(bad.offset, bad.reason) for bad in found.rejected] == [
        (5, Reason.EMPTY),
        (6, Reason.UNKNOWN_SCHEMA),
        (7, Reason.UNDECODABLE),
        (8, Reason.FRAMING),
    ]


async def test_many_records_go_in_order_over_several_batches(
    topic: str, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer
) -> None:
    """More than one batch holds still arrives whole and in order."""
    values = [n.to_bytes(4, "big") * 50_000 for n in range(30)]

    await send_values(producer, topic, PARTITION, [b"k"] * len(values), values)

    assert [record.value for record in await read(consumer, len(values))] == values


async def test_sent_by_key_lands_in_the_symbols_bucket(
    topic: str, producer: AIOKafkaProducer
) -> None:
    """The producer's own partitioner is Iceberg's bucket."""
    async with asyncio.timeout(60):
        sent = await producer.send_and_wait(topic, b"value", key=SYMBOL.encode())
    assert sent.partition == PARTITION


async def test_an_oversized_record_is_refused_by_the_producer(
    kafka: str, topic: str, producer: AIOKafkaProducer
) -> None:
    """It names topic and size, and nothing of the run was sent."""
    values = [b"fits", bytes(MAX_RECORD_BYTES + 1)]

    with pytest.raises(RecordTooLargeError, match=rf"{MAX_RECORD_BYTES + 2} bytes for {topic}"):
        await send_values(producer, topic, PARTITION, [b"k"] * 2, values)

    assert (await end_offsets(kafka, topic))[PARTITION] == 0


async def test_the_largest_record_allowed_is_taken(
    kafka: str, topic: str, producer: AIOKafkaProducer
) -> None:
    """Our bound is below Kafka's, also for bytes that do not compress."""
    incompressible = Random(1).randbytes(MAX_RECORD_BYTES - 1)

    await send_values(producer, topic, PARTITION, [b"k"], [incompressible])

    assert (await end_offsets(kafka, topic))[PARTITION] == 1


async def test_ensuring_topics_again_changes_nothing(kafka: str, topic: str) -> None:
    """A second service may ensure the same topics; another partition count is a mistake."""
    await ensure_topics(kafka, [topic])

    with pytest.raises(ConfigError, match=f"{topic} has 16 partitions and K2 needs 3"):
        await ensure_topics(kafka, [topic], partitions=3)


async def test_offsets_of_a_log(
    kafka: str, topic: str, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer
) -> None:
    """Begin and end are told for every partition, over a bootstrap address or a consumer."""
    await send_values(producer, topic, 3, [b"k"] * 5, [b"v"] * 5)

    for source in (kafka, consumer):
        assert await begin_offsets(source, topic) == dict.fromkeys(range(PARTITIONS), 0)
        assert await end_offsets(source, topic) == dict.fromkeys(range(PARTITIONS), 0) | {3: 5}
    with pytest.raises(NotFoundError, match="there is no topic nowhere"):
        await end_offsets(consumer, "nowhere")


async def test_a_cluster_has_one_id(kafka: str) -> None:
    """Whoever asks is told the same."""
    assert await cluster_id(kafka) == await cluster_id(kafka) != ""


async def test_a_consumer_never_resets_its_offset(
    kafka: str, topic: str, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer
) -> None:
    """A position past the end, and no position at all, are errors and no silent jump."""
    consumer.seek(TopicPartition(topic, PARTITION), 1_000)
    with pytest.raises(OffsetOutOfRangeError):
        await read(consumer, 1)

    consumer.assign([TopicPartition(topic, 0)])
    with pytest.raises(NoOffsetForPartitionError):
        await read(consumer, 1)


async def test_dead_letters_keep_place_reason_and_bytes(
    kafka: str, topic: str, producer: AIOKafkaProducer
) -> None:
    """A crash may write a letter twice; its readers see it once."""
    letters = [
        DeadLetter(topic, 3, 41, "UNDECODABLE", "péch", b"\x00\xff"),
        DeadLetter(topic, 3, 42, "EMPTY", "the record has no value", b""),
    ]
    await dead_letters.publish(producer, letters)
    await dead_letters.publish(producer, letters[:1])

    reader = await start_consumer(kafka, "test-letters")
    where = TopicPartition(dead_letter_topic(topic), 0)
    reader.assign([where])
    reader.seek(where, 0)
    try:
        records = await read(reader, 3)
    finally:
        await stop_client(reader)

    assert records[0].key == f"{topic}/3/41".encode()
    assert list(dead_letters.unique(map(dead_letters.read, records))) == letters


async def test_no_kafka_is_one_sentence() -> None:
    """Producer, consumer and administration all name the address and what to do."""
    for attempt in (
        start_producer(NOBODY, "test", timeout_s=2),
        start_consumer(NOBODY, "test", timeout_s=2),
        ensure_topics(NOBODY, ["t"], timeout_s=2),
        end_offsets(NOBODY, "t", timeout_s=2),
    ):
        with pytest.raises(UnavailableError, match=f"no Kafka answers at {NOBODY}.*k2 up"):
            await attempt


@pytest.mark.parametrize("start", [start_admin, start_consumer, start_producer])
async def test_a_cancelled_start_leaves_nothing_open(
    start: Callable[[str, str], Awaitable[object]],
) -> None:
    """A Kafka that takes connections and says nothing: the client closes its own when cancelled."""
    closed_by_client = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        while await reader.read(1024):
            continue
        closed_by_client.set()
        writer.close()

    connected = asyncio.Event()
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        starting = asyncio.ensure_future(start(f"{host}:{port}", "test"))
        async with asyncio.timeout(60):
            await connected.wait()
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            await closed_by_client.wait()
