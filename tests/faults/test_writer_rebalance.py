"""Writers come and go, and the table goes away meanwhile: every row exactly once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer

from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.writer import Writing, flush, status


@contextmanager
def table_away(writing: Writing) -> Iterator[None]:
    """Take the table's files away: the catalog knows the table and nobody can read it."""
    there = Path(writing.folder / "warehouse")
    away = there.rename(writing.folder / "away")
    try:
        yield
    finally:
        away.rename(there)


@contextmanager
def catalog_locked(writing: Writing) -> Iterator[None]:
    """Hold the catalog so that nobody else can write to it."""
    with closing(sqlite3.connect(writing.catalog, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


async def has_partitions(writer: Process, least: int, most: int) -> None:
    async def shared() -> bool:
        partitions = (await status(writer)).partitions
        return least <= len(partitions) <= most and not any(p.paused for p in partitions)

    await eventually(shared, 20, what=f"{writer.name} has {least} to {most} partitions")


async def stopped(writer: Process) -> str:
    async def reason() -> str:
        return (await status(writer)).stopped_because

    return await eventually(reason, 20, what="stopped_because")


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
        assert (await status(writer)).stopped_because == ""
    writing.prove_complete()
