"""Memory that an allocator gives nothing back of: a writer started anew is what helps."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.ballast import LIMIT_MIB, hold, let_go
from tests.support.governor import governor
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
async def test_two_writers_restart_one_after_the_other(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """The governor gives turns: while one is away the other waits, and has its own afterwards."""
    run_dir, group = writing.folder / "run", f"group-{writing.topic}"
    lax = {"K2_GOVERNOR_GROUPS": group, "K2_GOVERNOR_LAG_THRESHOLDS": ""}
    with ExitStack() as stack:
        opened = stack.enter_context(governor(writing.bootstrap, writing.topic, run_dir, lax))
        director, address = opened
        await director.serving()
        own = SHORT | {"K2_GOVERNOR_ADDRESS": address}
        writers = [stack.enter_context(writing.writer(f"writer-{n}", own)) for n in (1, 2)]
        for writer in writers:
            await has_partitions(writer, 8, 8)
            hold(writing.fault_dir, writer.name, keep=True)
        for writer in writers:
            await eventually(lambda: BROKEN in writer.log_text(), 60, what="CIRCUIT_BREAK")  # noqa: B023
            let_go(writing.fault_dir, writer.name)
        await writing.produce(producer)
        waiting = list(writers)
        while waiting:
            await eventually(lambda: not all(w.alive for w in waiting), 60, what="one restarts")
            (ended,) = [writer for writer in waiting if not writer.alive]
            assert ended.exit_code == RESTART
            waiting.remove(ended)
            assert all(writer.alive for writer in waiting)
            ended.restart()
        await writing.all_committed(60)
    writing.prove_complete(derived=False)


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
