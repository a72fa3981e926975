"""A writer that slept through a rebalance wakes with a commit in hand: it is fenced."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.evidence import prove
from tests.support.polling import eventually
from tests.support.processes import arm, disarm
from tests.support.writer import Writing, at_the_ends, has_partitions


@pytest.mark.parametrize("point", ["writer.before_build", "writer.before_send"])
async def test_a_paused_writer_is_fenced_when_its_partitions_have_moved(
    writing: Writing, producer: AIOKafkaProducer, point: str
) -> None:
    """SIGSTOP at the point until another writer has all partitions and has committed the rows."""
    with writing.writer("writer-1") as sleeper:
        await writing.produce(producer)
        await writing.all_committed()
        arm(writing.fault_dir, point)
        await writing.produce(producer)
        sleeper.reached(point, writing.fault_dir)
        sleeper.pause()
        disarm(writing.fault_dir, point)
        with writing.writer("writer-2") as other:
            await writing.produce(producer)
            await has_partitions(other, 16, 16)
            await writing.all_committed()
            await eventually(lambda: at_the_ends(writing, other), what="its offsets shown")
            sleeper.resume()
            await eventually(lambda: '"fenced"' in sleeper.log_text(), 20, what="fenced")
            await writing.produce(producer)
            await writing.all_committed()
    writing.prove_complete()
    await prove(writing)
