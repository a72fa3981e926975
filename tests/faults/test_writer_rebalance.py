"""Writers come and go, and the table goes away meanwhile: every row exactly once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.evidence import prove
from tests.support.flow import Flow
from tests.support.outages import Outage, catalog_away, catalog_locked, table_away
from tests.support.polling import eventually
from tests.support.processes import Process, arm, disarm
from tests.support.writer import (
    Writing,
    assigned,
    at_the_ends,
    counted,
    flush,
    has_partitions,
    status,
)


async def stopped(*writers: Process) -> str:
    """Wait for a writer that cannot commit: whichever has the rows."""

    async def reason() -> str:
        reasons = [(await status(writer)).stopped_because for writer in writers]
        return "; ".join(filter(None, reasons))

    return await eventually(reason, 40, what="stopped_because")


async def test_a_second_writer_joins_and_leaves(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Partitions move there and back while trades arrive."""
    with writing.writer("writer-1") as first:
        await writing.produce(producer)
        await has_partitions(first, 16, 16)
        with writing.writer("writer-2") as second:
            await writing.produce(producer)
            await has_partitions(second, 1, 15)
            await writing.produce(producer)
            assert second.stop() == 0
        await writing.produce(producer)
        await has_partitions(first, 16, 16)
        await writing.all_committed()
        assert first.stop() == 0
    writing.prove_complete()
    await prove(writing)


@pytest.mark.parametrize(
    ("outage", "leaves"), [(catalog_locked, Process.kill), (catalog_away, Process.stop)]
)
async def test_a_second_writer_joins_and_leaves_while_the_catalog_does_not_answer(
    writing: Writing, producer: AIOKafkaProducer, outage: Outage, leaves: Callable[[Process], None]
) -> None:
    """Its partitions come and go with nothing committed in between; what it read is read again."""
    point = "writer.before_join"
    with writing.writer("writer-1") as first:
        await writing.produce(producer)
        await writing.all_committed()
        await has_partitions(first, 16, 16)
        await eventually(lambda: at_the_ends(writing, first), what="its offsets shown")
        commits = (await status(first)).commits
        arm(writing.fault_dir, point)
        with writing.writer("writer-2") as second:
            second.reached(point, writing.fault_dir)
            with outage(writing):
                disarm(writing.fault_dir, point)
                await writing.produce(producer)
                await assigned(second, 1, 15)
                await assigned(first, 1, 15)
                assert await stopped(first, second)
                leaves(second)
                await assigned(first, 16, 16)
                assert (await status(first)).commits == commits
        await writing.produce(producer)
        await writing.all_committed()
        await has_partitions(first, 16, 16)
    writing.prove_complete()
    await prove(writing)


async def test_partitions_move_while_the_table_is_away(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Nothing is read before the table says where; meanwhile the status says why."""
    with writing.writer("writer-1") as first, writing.writer("writer-2") as second:
        await writing.produce(producer)
        await has_partitions(first, 1, 15)
        await has_partitions(second, 1, 15)
        with table_away(writing):
            await writing.produce(producer)
            second.kill()
            assert "table" in await stopped(first)
            await writing.produce(producer)
            await eventually(lambda: '"not_placed"' in first.log_text(), 20, what="not placed")
            assert all(p.paused for p in (await status(first)).partitions)
        await writing.all_committed()
        await has_partitions(first, 16, 16)
    writing.prove_complete()
    await prove(writing)


async def test_a_locked_catalog_holds_commits_and_loses_nothing(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """The writer goes on trying, says so, and commits once the lock is gone."""
    with writing.writer() as writer:
        await writing.produce(producer)
        await writing.all_committed()
        with catalog_locked(writing):
            await writing.produce(producer)
            assert "locked" in await stopped(writer)
        await writing.produce(producer)
        await writing.all_committed()
        await flush(writer)
        await counted(writer, stopped_because="")
    writing.prove_complete()
    await prove(writing)


async def test_a_rebalance_during_a_flush_fences_what_it_moved(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """A commit on its way while its partitions go to another writer lands once, or not at all."""
    point = "writer.before_send"
    flow = Flow(writing, producer)
    with writing.writer("writer-1") as first:
        await flow.send()
        await flow.committed()
        arm(writing.fault_dir, point)
        await flow.send()
        first.reached(point, writing.fault_dir)
        with writing.writer("writer-2") as second:
            await assigned(second, 1, 15)
            await flow.send()
            disarm(writing.fault_dir, point)
            await flow.committed()
            assert second.stop() == 0
    await prove(writing)
