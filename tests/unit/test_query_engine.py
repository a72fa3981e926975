"""Pools bound what waits, and interrupt what nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.market.errors import CorruptError, ExhaustedError, K2Error, UnavailableError
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
    waiting = [asyncio.create_task(pool.run(lambda _: gate.wait(60))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ExhaustedError) as caught:
        await pool.run(lambda _: None)
    assert caught.value.retry_after_s > 0
    gate.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await pool.run(lambda reader: reader.read("SELECT 1 AS x")["x"].to_pylist()) == [1]
    pool.close()


@pytest.mark.parametrize(
    ("content", "kind", "what"),
    [(None, UnavailableError, "is gone"), (b"PAR1 and no more", CorruptError, "is damaged")],
)
def test_a_data_file_that_cannot_be_read_is_named(
    engine: Engine, tmp_path: Path, content: bytes | None, kind: type[K2Error], what: str
) -> None:
    """In one sentence of ours; what DuckDB said is among the facts."""
    path = tmp_path / "gone or damaged.parquet"
    if content is not None:
        path.write_bytes(content)
    cursor = engine.cursor()
    with pytest.raises(kind, match=what) as told:
        cursor.read(f"SELECT * FROM read_parquet(['{path}'])")
    cursor.close()
    assert str(path) in told.value.message
    assert "LINE 1" not in told.value.message
    assert "Error" in str(told.value.facts["detail"])
