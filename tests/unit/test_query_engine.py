"""Pools bound what waits, and interrupt what nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.market.errors import ExhaustedError
from services.query.reading.engine import Engine, Pool, Reader
from tests.support.polling import eventually
from tests.support.query import engine_in

FOREVER = (
    "SELECT count(*) FROM range(10000000000) a, range(10000000000) b WHERE a.range = b.range + 1"
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    yield from engine_in(tmp_path)


async def test_a_query_nobody_waits_for_is_interrupted(engine: Engine) -> None:
    """Cancelling the caller ends the query in its thread."""
    pool = Pool("test", engine, workers=1, most_waiting=0)
    began, ended = threading.Event(), threading.Event()

    def endless(reader: Reader) -> None:
        began.set()
        try:
            reader.read(FOREVER)
        finally:
            ended.set()

    task = asyncio.create_task(pool.run(endless))
    await eventually(began.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(ended.is_set, 10, what="the query ended")
    pool.close()


async def test_too_many_waiting_are_refused(engine: Engine) -> None:
    """A full pool answers at once, with a time to try again, and then goes on."""
    pool = Pool("test", engine, workers=1, most_waiting=1)
    gate = threading.Event()
    waiting = [asyncio.create_task(pool.run(lambda _: gate.wait(10))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ExhaustedError) as caught:
        await pool.run(lambda _: None)
    assert caught.value.retry_after_s > 0
    gate.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await pool.run(lambda reader: reader.read("SELECT 1 AS x")["x"].to_pylist()) == [1]
    pool.close()
