"""A flood that the writer truly falls behind: shed by class, all of it written afterwards."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Mapping

import pytest

from libs.degradation.policy import Priority
from libs.lake.completeness.certificate import Bounds, Certificate, certify
from libs.lake.completeness.evidence import Beyond, book_of
from libs.lake.completeness.scope import Scope
from tests.support.governor import governor
from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.shedding import CLASSES, PARTITION, Shedding
from tests.support.writer import has_partitions, status

FLOOD = 150_000
MOST_FLOODS = 10
COUNTED = re.compile(r'^k2_writer_(\w+)_records_total\{class="(\w+)"\} (\S+)$', re.MULTILINE)
BELOW_CRITICAL = {priority.value for priority in Priority} - {Priority.CRITICAL.value}


async def counted(writer: Process, what: str) -> Mapping[str, float]:
    """Return a writer's counter of records by class."""
    door = await writer.door()

    def read() -> str:
        with urllib.request.urlopen(f"http://{door.metrics}/metrics", timeout=60) as response:
            return str(response.read().decode())

    page = await asyncio.to_thread(read)
    return {cls: float(n) for name, cls, n in COUNTED.findall(page) if name == what}


async def flooded(shedding: Shedding, writer: Process) -> None:
    """Produce until records of every class below critical wait."""
    for _ in range(MOST_FLOODS):
        await shedding.produce(FLOOD)
        if (await counted(writer, "shed")).keys() >= BELOW_CRITICAL:
            return
    raise AssertionError(f"the writer kept up with {MOST_FLOODS * FLOOD} records")


def certified(shedding: Shedding, symbol: str) -> Certificate:
    """Certify a symbol by the table's own ledger."""
    index, topic = shedding.index(), shedding.writing.topic
    ends = {topic: {PARTITION: shedding.end}}
    bounds = Bounds(1, index.seam, index.seam, ends, log_is_known=True)
    scope = Scope(symbol)
    known = [one for one in index.ledger.coverage if one.symbol == symbol]
    return certify(book_of(index.ledger, known, scope), Beyond(), scope, bounds)


@pytest.mark.whole
async def test_a_flood_is_shed_by_class_and_all_of_it_written_afterwards(
    shedding: Shedding,
) -> None:
    """Levels by the real governor on Kafka's own lag, at a five-hundredth of its thresholds."""
    writing = shedding.writing
    scaled = {
        "K2_GOVERNOR_GROUPS": f"group-{writing.topic}",
        "K2_GOVERNOR_LAG_THRESHOLDS": "",
        "K2_GOVERNOR_LAG_SCALE": "0.002",
    }
    with governor(writing.bootstrap, writing.topic, writing.folder / "run", scaled) as (
        process,
        at,
    ):
        await process.serving()
        own = {"K2_GOVERNOR_ADDRESS": at, "K2_WRITER_BACKFILL_RECORDS_PER_S": "1000000"}
        with shedding.writer(env=own) as writer:
            await has_partitions(writer, 16, 16)
            await flooded(shedding, writer)
            await shedding.committed(120)
            shed = await counted(writer, "shed")

            async def normal() -> bool:
                return (await status(writer)).level == "NORMAL"

            await eventually(normal, 60, what="NORMAL")
            await shedding.settled(120)
            assert await counted(writer, "backfilled") == shed
    assert shedding.stored() == shedding.produced
    for symbol in CLASSES:
        assert certified(shedding, symbol).complete
