"""Other tools write to K2's table: what keeps its offsets is borne, what does not is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from libs.lake.ledger.store import ledger_location
from libs.lake.table.durable import local_path
from libs.lake.table.tables import TRADES
from tests.support import foreign
from tests.support.asker import newest
from tests.support.asking import sequences
from tests.support.evidence import dangling, prove
from tests.support.flow import Flow
from tests.support.polling import eventually
from tests.support.processes import Process, started
from tests.support.stack import query_variables
from tests.support.writer import Writing, rows_in, status


async def test_a_foreign_rewrite_and_orphan_removal_are_borne(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """A `replace` has the seam and ledger of what it rewrote; the ledger is out of their reach."""
    flow = Flow(writing, producer, resent=0.2)
    with writing.writer() as writer:
        for _ in range(3):
            await flow.send(200)
            await flow.committed()
        table = writing.lake.load_table(TRADES)
        assert foreign.rewrite(table) == 3
        await flow.send(200)
        await flow.committed()
        orphan = Path(local_path(table.location()) or "") / "data" / "orphan.parquet"
        orphan.write_bytes(b"nobody's")
        table = writing.lake.load_table(TRADES)
        assert foreign.remove_orphans(table) >= 1
        assert not orphan.exists()
        ledger = local_path(ledger_location(table.metadata))
        assert ledger is not None
        assert ledger.exists()
        writer.kill()
        writer.restart()
        await flow.send(200)
        await flow.committed()
        assert writer.stop() == 0
    await prove(writing)
    assert not dangling(writing.lake.load_table(TRADES)) & {orphan}


@pytest.mark.whole
async def test_a_foreign_append_stops_the_writer_until_it_is_rolled_back(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Nobody can say what those rows are of: nothing is committed on top, and nobody sees them."""
    flow = Flow(writing, producer)
    with writing.writer() as writer, querying(writing) as query:
        await flow.send()
        await flow.committed()
        good = writing.lake.load_table(TRADES).metadata.current_snapshot()
        assert good is not None
        await query.serving()
        foreign.append(writing.lake.load_table(TRADES))
        rows = rows_in(writing.lake)
        await flow.send()

        async def said() -> bool:
            return "another tool" in (await status(writer)).stopped_because

        await eventually(said, 20, what="the writer says why it stopped")
        assert rows_in(writing.lake) == rows
        await eventually(lambda: '"catalog_problem"' in query.log_text(), what="the query says so")
        await eventually(lambda: all_seen(query, flow), 20, what="good answers on and on")
        foreign.roll_back(writing.lake.load_table(TRADES), good)
        await flow.committed()
        assert (await status(writer)).stopped_because == ""
        assert await all_seen(query, flow)
    await prove(writing)


@contextmanager
def querying(writing: Writing) -> Iterator[Process]:
    env = query_variables(writing)
    with started("services.query", name="query-1", run_dir=writing.folder / "run", env=env) as one:
        yield one


async def all_seen(query: Process, flow: Flow) -> bool:
    """Say whether the newest trades of a symbol are there, each once and none of another tool's."""
    answer = await newest(query, "BTCUSDT")
    sent = flow.sent["BTCUSDT"]
    return sequences(answer) == list(range(sent - 1, sent - 1 - len(answer.trades), -1))
