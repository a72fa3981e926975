"""A writer killed from outside at named points: the next one finishes, every row exactly once."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

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
