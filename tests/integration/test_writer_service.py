"""The writer as a process: its calls, its gauge in Kafka, its stop, its refusals."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_consumer, start_producer, stop_client
from libs.lake.commits.committer import Committer
from libs.lake.commits.seam import LOST_KEY, decode_ranges, summary_text
from libs.lake.table.tables import TRADES
from tests.support import lake as support_lake
from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.writer import (
    SYMBOLS,
    Writing,
    at_the_ends,
    counted,
    flush,
    rows_in,
    status,
)

PATIENT = {"K2_WRITER_FLUSH_AFTER_S": "600"}


async def decoded_all(writing: Writing, writer: Process) -> None:
    async def decoded() -> bool:
        partitions = {p.partition: p.decoded_offset for p in (await status(writer)).partitions}
        return all(partitions.get(p) == end for p, end in writing.ends.items())

    await eventually(decoded, 30, what="all decoded")


async def test_flush_commits_what_was_fetched(writing: Writing, producer: AIOKafkaProducer) -> None:
    """It answers with the snapshot and its rows; a second one has nothing to commit."""
    with writing.writer(env=PATIENT) as writer:
        await writing.produce(producer)
        await decoded_all(writing, writer)
        assert rows_in(writing.lake) == 0
        flushed = await flush(writer)
        head = writing.lake.load_table(TRADES).metadata.current_snapshot()
        assert head is not None
        assert (flushed.snapshot_id, flushed.rows) == (head.snapshot_id, 6_000)
        assert (await flush(writer)).rows == 0
        await counted(writer, committed_rows=6_000, commits=1, buffered_rows=0)
        await eventually(lambda: at_the_ends(writing, writer), what="offsets shown")
    writing.prove_complete()


async def test_kafka_is_told_the_decoded_position(
    writing: Writing, producer: AIOKafkaProducer, kafka: str
) -> None:
    """The group's offsets are the gauge of lag, ahead of the table."""
    with writing.writer(env=PATIENT) as writer:
        await writing.produce(producer)
        await decoded_all(writing, writer)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()

        async def told() -> bool:
            offsets = await admin.list_consumer_group_offsets(f"group-{writing.topic}")
            found = {tp.partition: offset.offset for tp, offset in offsets.items() if offset.offset}
            return found == writing.ends

        try:
            await eventually(told, 10, what="decoded positions in Kafka")
        finally:
            await admin.close()
    assert rows_in(writing.lake) == 0


async def test_a_stopped_writer_commits_first(writing: Writing, producer: AIOKafkaProducer) -> None:
    """SIGTERM: drain, flush, commit, leave."""
    with writing.writer(env=PATIENT) as writer:
        await writing.produce(producer)
        await decoded_all(writing, writer)
        assert writer.stop() == 0
    writing.prove_complete()


async def delete_before(writing: Writing, bootstrap: str, partition: int, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        tp = TopicPartition(writing.topic, partition)
        await admin.delete_records({tp: RecordsToDelete(offset)})
    finally:
        await admin.close()


async def test_what_retention_took_is_recorded_as_lost(
    writing: Writing, producer: AIOKafkaProducer, kafka: str
) -> None:
    """A fenced commit says which offsets, the status how many; the rest goes on."""
    await writing.produce(producer)
    await delete_before(writing, kafka, 3, 1_000)
    writing.expected[0] = writing.expected[0].slice(1_000)
    with writing.writer() as writer:
        await writing.all_committed()
        shown = await counted(writer, lost_records=1_000)
        assert shown.stopped_because == ""
    snapshots = writing.lake.load_table(TRADES).metadata.snapshots
    lost = [text for snapshot in snapshots if (text := summary_text(snapshot, LOST_KEY))]
    assert [decode_ranges(text) for text in lost] == [{(writing.topic, 3): (0, 1_000)}]
    writing.prove_complete()


async def make_topic_anew(writing: Writing, bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_topics([writing.topic])
    await admin.close()
    await ensure_topics(bootstrap, [writing.topic])


async def paused(writer: Process, partitions: set[int]) -> bool:
    return {p.partition for p in (await status(writer)).partitions if p.paused} == partitions


async def test_another_log_under_the_same_name_is_refused(
    writing: Writing, producer: AIOKafkaProducer, kafka: str
) -> None:
    """Topic, partition and both offsets are named; partitions that fit go on."""
    await writing.produce(producer)
    with writing.writer() as writer:
        await writing.all_committed()
        assert writer.stop() == 0
    await make_topic_anew(writing, kafka)
    with writing.writer() as writer:

        async def refused() -> bool:
            why = (await status(writer)).stopped_because
            return all(word in why for word in (writing.topic, "partition 3", "0", "3000"))

        await eventually(refused, 20, what="refusal")
        await eventually(lambda: paused(writer, set(SYMBOLS.values())), what="both refused")


async def test_another_log_that_is_longer_is_refused_too(
    writing: Writing, producer: AIOKafkaProducer, kafka: str
) -> None:
    """What stands before the table's offset is another trade there: nothing of it is taken."""
    await writing.produce(producer)
    with writing.writer() as writer:
        await writing.all_committed()
        assert writer.stop() == 0
    proven = list(writing.expected)
    await make_topic_anew(writing, kafka)
    writing.ends = dict.fromkeys(writing.ends, 500_000)
    other = await start_producer(kafka, "another-log")
    await writing.produce(other, rows=4_000)
    await stop_client(other)
    writing.expected = proven
    with writing.writer() as writer:

        async def refused() -> bool:
            why = (await status(writer)).stopped_because
            return all(word in why for word in (writing.topic, "trade 502999", "trade 2999"))

        await eventually(refused, 20, what="refusal")
        await eventually(lambda: paused(writer, set(SYMBOLS.values())), what="both refused")
    writing.prove_complete()


async def test_another_cluster_is_refused_at_start(writing: Writing) -> None:
    """One sentence with both clusters, and the exit code of a bad configuration."""
    other = support_lake.prepared((3, 0, 5), cluster_id="elsewhere")
    Committer(writing.lake, TRADES).commit(other)
    with writing.writer() as writer:
        assert writer.wait() == 78
        assert "the table's offsets are of Kafka cluster elsewhere" in writer.log_text()


async def test_a_kafka_that_is_not_there_is_said_so(writing: Writing) -> None:
    """One sentence, and what to do."""
    with writing.writer(env={"K2_KAFKA_BOOTSTRAP": "127.0.0.1:1"}) as writer:
        assert writer.wait() == 70
        assert "no Kafka answers at 127.0.0.1:1" in writer.log_text()


async def test_records_that_are_no_trades_wait_in_the_dead_letters(
    writing: Writing, producer: AIOKafkaProducer, kafka: str
) -> None:
    """With reason and bytes; the rest of their batch goes on, and the seam passes them by."""
    unknown_schema = b"\x00" + (999_999).to_bytes(4, "big") + b"\x00abc"
    broken = b"\x00" + writing.schema_id.to_bytes(4, "big") + b"\x00\xff\xff\xff"
    bad: list[bytes | None] = [b"", b"{not a trade}", unknown_schema, broken, None, b"x" * 900_000]
    await writing.produce(producer)
    offsets = await writing.produce_raw(producer, bad)
    await writing.produce(producer)
    with writing.writer() as writer:
        await writing.all_committed()
        await counted(writer, dead_lettered_rows=len(bad))
    writing.prove_complete()
    letters = await dead_letters(writing, kafka, len(bad))
    assert {offset: raw for offset, (_, raw) in letters.items()} == {
        offset: value or b"" for offset, value in zip(offsets, bad, strict=True)
    }
    reasons = [letters[offset][0] for offset in offsets]
    assert reasons == ["EMPTY", "FRAMING", "UNKNOWN_SCHEMA", "UNDECODABLE", "EMPTY", "FRAMING"]


async def dead_letters(
    writing: Writing, bootstrap: str, count: int
) -> dict[int, tuple[str, bytes]]:
    """Read reason and bytes by the offset of the record."""
    consumer = await start_consumer(bootstrap, "test")
    tp = TopicPartition(f"{writing.topic}.dlq", 0)
    consumer.assign([tp])
    consumer.seek(tp, 0)
    found: dict[int, tuple[str, bytes]] = {}
    try:

        async def read() -> bool:
            for record in (await consumer.getmany(timeout_ms=100)).get(tp, []):
                offset = int(record.key.decode().rpartition("/")[2])
                found[offset] = (dict(record.headers)["reason"].decode(), record.value)
            return len(found) >= count

        await eventually(read, 10, what="dead letters")
    finally:
        await stop_client(consumer)
    return found
