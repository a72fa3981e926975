"""A writer killed from outside at named points: the next one finishes, every row exactly once."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from libs.kafka.dead_letters import DeadLetter, read
from libs.kafka.topics import dead_letter_topic
from tests.support.ingesting import records_of
from tests.support.processes import arm, disarm
from tests.support.writer import Writing


@pytest.mark.parametrize(
    "point",
    ["writer.after_fetch", "writer.mid_file", "writer.after_upload", "writer.after_commit"],
)
async def test_a_killed_writer_loses_and_doubles_nothing(
    writing: Writing, producer: AIOKafkaProducer, point: str
) -> None:
    """SIGKILL at the point; what was in its hands is read again, or was in the table already."""
    await writing.produce(producer)
    with writing.writer() as writer:
        await writing.all_committed()
        arm(writing.fault_dir, point)
        await writing.produce(producer)
        writer.reached(point, writing.fault_dir)
        writer.kill()
        disarm(writing.fault_dir, point)
        await writing.produce(producer)
        writer.restart()
        await writing.all_committed()
    writing.prove_complete()


async def test_a_writer_killed_between_dead_letters_and_commit_keeps_both(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """The letters are sent again after the restart: some twice, and of exactly the rejected."""
    point = "writer.after_dead_letters"
    bad: list[bytes | None] = [b"", b"{no trade}", None]
    with writing.writer() as writer:
        await writing.produce(producer)
        await writing.all_committed()
        arm(writing.fault_dir, point)
        rejected = await writing.produce_raw(producer, bad)
        writer.reached(point, writing.fault_dir)
        in_hand = await dead_letters(writing)
        writer.kill()
        disarm(writing.fault_dir, point)
        rejected += await writing.produce_raw(producer, bad, partition=13)
        await writing.produce(producer)
        writer.restart()
        await writing.all_committed()
    letters = await dead_letters(writing)
    assert in_hand
    assert len(letters) == len(in_hand) + len(rejected)
    assert {letter.position for letter in letters} == {
        (writing.topic, partition, offset)
        for partition, offset in zip([3] * 3 + [13] * 3, rejected, strict=True)
    }
    writing.prove_complete()


async def dead_letters(writing: Writing) -> list[DeadLetter]:
    return [
        read(record)
        for record in await records_of(writing.bootstrap, dead_letter_topic(writing.topic))
    ]
