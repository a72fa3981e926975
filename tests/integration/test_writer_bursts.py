"""A burst of records that cannot be read holds its partition; nothing of it is passed by."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from k2.writer.v1 import dead_letters_pb2, dead_letters_pb2_grpc, writer_pb2

from libs.kafka.admin import end_offsets
from libs.kafka.client import start_admin, stop_client
from libs.kafka.send import send_values
from libs.kafka.topics import dead_letter_topic
from libs.rpc import client
from tests.support.damage import segment_of, turned_over
from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.writer import SYMBOLS, Writing, counted, rows_in, status

PROBING = {"K2_WRITER_PROBE_EVERY_S": "0.5"}
UNREADABLE = b"\x00" + (999_999).to_bytes(4, "big") + b"\x00abc"


async def held(writer: Process) -> dict[int, writer_pb2.PartitionStatus]:
    partitions = (await status(writer)).partitions
    return {p.partition: p for p in partitions if p.held_because}


async def dead_letters(writing: Writing) -> int:
    return (await end_offsets(writing.bootstrap, dead_letter_topic(writing.topic)))[0]


async def test_a_registry_that_is_gone_holds_and_its_return_releases(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Nothing is dead-lettered, and with the schemas every row comes by itself."""
    schemas = writing.folder / "schemas.json"
    away = schemas.rename(writing.folder / "away.json")
    await writing.produce(producer, 1_000)
    with writing.writer(env=PROBING) as writer:

        async def all_held() -> bool:
            return (await held(writer)).keys() == set(SYMBOLS.values())

        await eventually(all_held, 60, what="both partitions held")
        shown = (await held(writer))[3]
        assert shown.paused
        assert (shown.decoded_offset, shown.committed_offset) == (0, 0)
        assert "UNKNOWN_SCHEMA" in shown.held_because
        assert shown.HasField("held_since")
        away.rename(schemas)
        await writing.all_committed()
        assert await dead_letters(writing) == 0

        async def released() -> bool:
            return not await held(writer)

        await eventually(released, 10, what="nothing is held")
    writing.prove_complete()


async def test_what_is_held_goes_to_the_dead_letters_by_hand(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Resumed, the burst is dead-lettered and what comes after it stored; no other waits."""
    with writing.writer() as writer:
        await writing.produce(producer, 1_000)
        await writing.all_committed()
        await send_values(producer, writing.topic, 3, [b"BTCUSDT"] * 300, [UNREADABLE] * 300)
        writing.ends[3] += 300

        async def one_held() -> bool:
            return (await held(writer)).keys() == {3}

        await eventually(one_held, 30, what="the partition held")
        assert (await held(writer))[3].decoded_offset == 1_000
        assert await dead_letters(writing) == 0
        assert await resumed(writer, writing.topic) == [3]
        await writing.produce(producer, 500)
        await writing.all_committed()
        assert await dead_letters(writing) == 300
        assert await resumed(writer, writing.topic) == []
        await counted(writer, dead_lettered_rows=300)
    writing.prove_complete()


async def test_what_is_held_never_outlives_the_log(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """At half of the retention it is dead-lettered by itself, and what comes after it stored."""
    await keep_for(writing, 12_000)
    with writing.writer(env=PROBING) as writer:
        await writing.produce(producer, 1_000)
        await writing.all_committed()
        await send_values(producer, writing.topic, 3, [b"BTCUSDT"] * 300, [UNREADABLE] * 300)
        writing.ends[3] += 300

        async def given_up() -> bool:
            return "half of it is used" in writer.log_text()

        await eventually(given_up, 30, what="the hold ends by itself")
        await writing.produce(producer, 500)
        await writing.all_committed()
        assert writer.log_text().count("partition_held") == 1
        assert await dead_letters(writing) == 300
    writing.prove_complete()


async def test_a_batch_that_a_broker_breaks_holds_its_partition_until_it_is_mended(
    writing: Writing, producer: AIOKafkaProducer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The broker gives what its disk has: no restart, nothing passed by, and all rows at last."""
    await writing.produce(producer, 1_000)
    segment = segment_of(tmp_path_factory, writing.topic, 3)
    begins = segment.stat().st_size
    await writing.produce(producer, 500)
    turned_over(segment, begins + 100)
    with writing.writer(env=PROBING) as writer:

        async def one_held() -> bool:
            return (await held(writer)).keys() == {3}

        await eventually(one_held, 60, what="the partition held")
        shown = (await held(writer))[3]
        assert f"offset 1000 of {writing.topic}, partition 3" in shown.held_because
        await eventually(lambda: rows_in(writing.lake) >= 2_500, what="all rows before it")
        assert await resumed(writer, writing.topic) == [3]
        turned_over(segment, begins + 100)
        await writing.all_committed()

        async def released() -> bool:
            return not await held(writer)

        await eventually(released, what="nothing is held")
        assert "actor_failed" not in writer.log_text()
    writing.prove_complete()


async def keep_for(writing: Writing, retention_ms: int) -> None:
    admin = await start_admin(writing.bootstrap, "test-retention")
    try:
        config = {"retention.ms": str(retention_ms)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, writing.topic, config)])
    finally:
        await stop_client(admin)


async def resumed(writer: Process, topic: str) -> list[int]:
    door = await writer.door()
    async with client.channel(door.grpc or "") as channel:
        stub = dead_letters_pb2_grpc.DeadLetterServiceStub(channel)
        request = dead_letters_pb2.ResumePartitionsRequest(topic=topic)
        answer = await client.call(stub.ResumePartitions, request, timeout_s=60)
    return [partition.partition for partition in answer.partitions]
