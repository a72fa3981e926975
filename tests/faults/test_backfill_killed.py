"""A writer killed, or asleep, while it writes what it had put off: every row exactly once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.evidence import evidence_of, prove
from tests.support.flow import Flow
from tests.support.governor import governor
from tests.support.oracle import assert_sound, undrained
from tests.support.polling import eventually
from tests.support.processes import Process, arm, disarm
from tests.support.writer import Writing, assigned, status

SYMBOLS = ("BTCUSDT", "BNBUSDT", "DOGEUSDT", "ADAUPUSDT")
HELD = "writer.after_fetch"
POINTS = [
    "backfill.after_fetch",
    "backfill.before_build",
    "backfill.before_send",
    "backfill.after_commit",
]


@asynccontextmanager
async def directed(writing: Writing, name: str = "writer-1") -> AsyncIterator[Process]:
    """Run a writer under a governor that thinks little of lag."""
    env = {
        "K2_GOVERNOR_GROUPS": f"group-{writing.topic}",
        "K2_GOVERNOR_LAG_THRESHOLDS": "200,400,600,1000000",
    }
    with governor(writing.bootstrap, writing.topic, writing.folder / "run", env) as (director, at):
        await director.serving()
        variables = {"K2_GOVERNOR_ADDRESS": at, "K2_WRITER_FETCH_BYTES": "64KiB"}
        with writing.writer(name, env=variables) as writer:
            yield writer


async def puts_off(writing: Writing, writer: Process, flow: Flow) -> None:
    """Have a writer fall behind until it stores the critical symbol alone."""
    arm(writing.fault_dir, HELD)
    await flow.send(4_000)

    async def aggressive() -> bool:
        return (await status(writer)).level == "AGGRESSIVE"

    await eventually(aggressive, 30, what="AGGRESSIVE")
    disarm(writing.fault_dir, HELD)


async def nothing_is_owed(writing: Writing) -> None:
    async def drained() -> bool:
        return not undrained(await evidence_of(writing))

    await eventually(drained, 60, what="backfill is done", poll_s=0.5)


@pytest.mark.whole
@pytest.mark.parametrize("point", POINTS)
async def test_a_writer_killed_in_its_backfill_loses_and_doubles_nothing(
    writing: Writing, producer: AIOKafkaProducer, point: str
) -> None:
    """SIGKILL at the point; the range is open still, or closed by the rows in the table."""
    flow = Flow(writing, producer, symbols=SYMBOLS)
    async with directed(writing) as writer:
        await flow.send()
        await flow.committed()
        arm(writing.fault_dir, point)
        await puts_off(writing, writer, flow)
        writer.reached(point, writing.fault_dir)
        assert_sound(await evidence_of(writing))
        writer.kill()
        disarm(writing.fault_dir, point)
        writer.restart()
        await flow.send()
        await nothing_is_owed(writing)
    await prove(writing)


@pytest.mark.whole
async def test_a_backfill_that_slept_while_another_writer_did_it_is_fenced(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """SIGSTOP before it sends, until the range is closed by the other; then it wakes."""
    point = "backfill.before_send"
    flow = Flow(writing, producer, symbols=SYMBOLS)
    async with directed(writing) as sleeper:
        await flow.send()
        await flow.committed()
        arm(writing.fault_dir, point)
        await puts_off(writing, sleeper, flow)
        sleeper.reached(point, writing.fault_dir)
        sleeper.pause()
        disarm(writing.fault_dir, point)
        with writing.writer("writer-2") as other:
            await assigned(other, 16, 16)
            await nothing_is_owed(writing)
            sleeper.resume()
            await assigned(sleeper, 1, 15)
            await flow.send()
            await flow.committed()
            await nothing_is_owed(writing)
    await prove(writing)
