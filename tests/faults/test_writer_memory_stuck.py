"""Memory that an allocator gives nothing back of: a writer started anew is what helps."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.ballast import LIMIT_MIB, hold, let_go
from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.shedding import Shedding
from tests.support.writer import Writing, has_partitions, status

RESTART = 75
# In the log, for the process ends some seconds later.
BROKEN = '"memory_level": "CIRCUIT_BREAK"'
SHORT = {"K2_MEMORY_LIMIT_BYTES": f"{LIMIT_MIB}MiB", "K2_WRITER_RESTART_JITTER_S": "0"}


async def at(writer: Process, level: str) -> None:
    async def there() -> bool:
        return (await status(writer)).level == level

    await eventually(there, 60, what=level)


async def test_a_writer_restarts_where_nothing_else_gives_its_memory_back(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """It pauses, drains, ends asking for another, and the other goes on where the table says."""
    with writing.writer(env=SHORT) as writer:
        await has_partitions(writer, 16, 16)
        await writing.produce(producer)
        await writing.all_committed()
        hold(writing.fault_dir, writer.name, keep=True)
        await eventually(lambda: BROKEN in writer.log_text(), 60, what="CIRCUIT_BREAK applied")
        let_go(writing.fault_dir, writer.name)
        await writing.produce(producer)
        assert await asyncio.to_thread(writer.wait, 60) == RESTART
        assert '"restarting"' in writer.log_text()
        writer.restart()
        await writing.all_committed(60)
        assert (await status(writer)).level == "NORMAL"
    writing.prove_complete()


@pytest.mark.whole
async def test_a_writer_that_no_restart_helps_goes_on_with_the_smallest_batches(
    shedding: Shedding,
) -> None:
    """After three in ten minutes: the alarm is up, and what comes is written all the same."""
    folder = shedding.writing.folder
    (folder / "run").mkdir(parents=True)
    (folder / "run/writer-1.restarts").write_text(f"{time.time_ns() // 1_000}\n" * 3)
    with shedding.writer(env=SHORT | {"K2_GOVERNOR_ADDRESS": ""}) as writer:
        await has_partitions(writer, 16, 16)
        hold(shedding.writing.fault_dir, writer.name)
        await at(writer, "CIRCUIT_BREAK")
        await shedding.produce(4_000)
        await shedding.committed(90)
        assert writer.alive
        assert '"memory_stuck"' in writer.log_text()
        assert (await status(writer)).level == "CIRCUIT_BREAK"
        let_go(shedding.writing.fault_dir, writer.name)
        await shedding.produce(1_000)
        await shedding.committed()
    assert shedding.stored() == shedding.produced
