"""A writer killed from outside at named points: the next one finishes, every row exactly once."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from libs.kafka.dead_letters import DeadLetter, read
from libs.kafka.topics import dead_letter_topic
from tests.support.evidence import prove
from tests.support.flow import Flow
from tests.support.ingesting import records_of
from tests.support.processes import arm, disarm
from tests.support.writer import Writing

QUICK = (
    "writer.after_fetch",
    "writer.mid_file",
    "writer.after_upload",
    "catalog.after_landing",
    "writer.after_offsets",
)
REST = (
    "writer.before_join",
    "writer.after_dead_letters",
    "writer.before_build",
    "writer.before_send",
    "catalog.before_landing",
    "writer.after_commit",
    "writer.before_offsets",
)
POINTS = [*QUICK, *(pytest.param(point, marks=pytest.mark.whole) for point in REST)]


@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_writer_loses_and_doubles_nothing(
    writing: Writing, producer: AIOKafkaProducer, point: str
) -> None:
    """SIGKILL at the point; what was in its hands is read again, or was in the table already."""
    flow = Flow(writing, producer)
    await flow.send()
    with writing.writer() as writer:
        if point != "writer.before_join":
            await flow.committed()
        arm(writing.fault_dir, point)
        await flow.send()
        writer.reached(point, writing.fault_dir)
        writer.kill()
        disarm(writing.fault_dir, point)
        await flow.send()
        writer.restart()
        await flow.committed()
    await prove(writing)


@pytest.mark.whole
@pytest.mark.parametrize("seed", range(3))
async def test_a_writer_killed_again_and_again_loses_and_doubles_nothing(
    writing: Writing, producer: AIOKafkaProducer, seed: int
) -> None:
    """At each point in turn, in an order of the seed's, with trades sent again all the while."""
    flow = Flow(writing, producer, seed=seed, resent=0.3)
    points = [point for point in (*QUICK, *REST) if point != "writer.before_join"]
    flow.random.shuffle(points)
    with writing.writer() as writer:
        for point in points:
            arm(writing.fault_dir, point)
            await flow.send(200)
            writer.reached(point, writing.fault_dir)
            writer.kill()
            disarm(writing.fault_dir, point)
            writer.restart()
        await flow.committed()
    await prove(writing)


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
    assert len(letters) >= len(in_hand) + len(rejected)
    assert {letter.position for letter in letters} == {
        (writing.topic, partition, offset)
        for partition, offset in zip([3] * 3 + [13] * 3, rejected, strict=True)
    }
    writing.prove_complete()
    await prove(writing)


async def dead_letters(writing: Writing) -> list[DeadLetter]:
    records = await records_of(writing.bootstrap, dead_letter_topic(writing.topic))
    return [read(record) for record in records]
