"""The catalog goes away, or says nothing of a commit: it landed once, or not at all."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from libs.lake.table.catalog import CALL_TIMEOUT_S
from tests.support.evidence import prove
from tests.support.flow import Flow
from tests.support.outages import catalog_away
from tests.support.polling import eventually
from tests.support.processes import arm, disarm
from tests.support.writer import Writing, status


@pytest.mark.whole
@pytest.mark.parametrize("point", ["catalog.after_landing", "catalog.before_landing"])
async def test_a_commit_of_which_nothing_is_heard_is_in_the_table_once(
    writing: Writing, producer: AIOKafkaProducer, point: str
) -> None:
    """Held where it has landed, or just before, until the writer has given it up."""
    flow = Flow(writing, producer)
    with writing.writer() as writer:
        await flow.send()
        await flow.committed()
        arm(writing.fault_dir, point)
        await flow.send()
        writer.reached(point, writing.fault_dir)
        await eventually(
            lambda: "no answer within" in writer.log_text(),
            CALL_TIMEOUT_S + 10,
            what="the writer gives the commit up",
        )
        disarm(writing.fault_dir, point)
        await flow.send()
        await flow.committed()
    await prove(writing)


@pytest.mark.whole
async def test_a_catalog_that_is_away_for_a_minute_holds_two_writers_and_loses_nothing(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """They say why, keep their partitions, and go on by themselves."""
    flow = Flow(writing, producer)
    with writing.writer("writer-1") as first, writing.writer("writer-2") as second:
        await flow.send()
        await flow.committed()
        with catalog_away(writing):
            for _ in range(12):
                await flow.send(200)
                await asyncio.sleep(5)
            assert "catalog" in (await status(first)).stopped_because
            assert first.alive
            assert second.alive
        await flow.committed()
        for writer in (first, second):
            assert (await status(writer)).stopped_because == ""
    await prove(writing)
