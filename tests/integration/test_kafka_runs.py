"""Records in columns against the real broker, transactions and all."""

from __future__ import annotations

from itertools import pairwise

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from libs.kafka.client import start_consumer, stop_client
from libs.kafka.runs import Run, deliver_runs
from tests.support.polling import eventually


async def produce_with_transactions(bootstrap: str, topic: str) -> None:
    """Send small and large batches, committed and aborted ones in between."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"tx-{topic}")
    await producer.start()
    for number, rows in enumerate([3, 200, 150, 2, 90]):
        await producer.begin_transaction()
        for row in range(rows):
            await producer.send(
                topic, b"%d/%d" % (number, row), key=b"k%d" % row if row % 3 else None, partition=3
            )
        await producer.flush()
        await (producer.abort_transaction() if number in (1, 3) else producer.commit_transaction())
    await producer.stop()


async def everything(consumer: AIOKafkaConsumer, tp: TopicPartition) -> list[object]:
    """Read to the end of the partition."""
    consumer.assign([tp])
    consumer.seek(tp, 0)
    end = (await consumer.end_offsets([tp]))[tp]
    found: list[object] = []

    async def at_end() -> bool:
        found.extend((await consumer.getmany(timeout_ms=100, max_records=2)).get(tp, []))
        return bool(await consumer.position(tp) >= end)

    await eventually(at_end, 10, what="end of the log")
    return found


async def test_runs_hold_what_records_hold(kafka: str, topic: str) -> None:
    """Aborted records and markers are left out, and their positions covered."""
    await produce_with_transactions(kafka, topic)
    tp = TopicPartition(topic, 3)
    plain, columns = await start_consumer(kafka, "plain"), await start_consumer(kafka, "columns")
    deliver_runs(columns)
    try:
        records = await everything(plain, tp)
        runs = [run for run in await everything(columns, tp) if isinstance(run, Run)]
    finally:
        await stop_client(plain)
        await stop_client(columns)
    assert len(records) == 3 + 150 + 90
    assert [o for run in runs for o in run.offsets.tolist()] == [r.offset for r in records]  # type: ignore[attr-defined]
    assert [v for run in runs for v in run.values.to_pylist()] == [r.value for r in records]  # type: ignore[attr-defined]
    assert [k for run in runs for k in run.keys.array().to_pylist()] == [r.key for r in records]  # type: ignore[attr-defined]
    assert all(run.stored_bytes and run.appended_ms for run in runs)
    assert runs[0].start == 0
    assert all(before.following <= after.start for before, after in pairwise(runs))
