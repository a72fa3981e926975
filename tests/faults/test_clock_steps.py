"""Somebody sets the clock by an hour, forth and back, under a running writer."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from aiokafka import AIOKafkaProducer

from libs.lake.table.tables import TRADES
from tests.support.evidence import prove
from tests.support.flow import Flow
from tests.support.processes import ROOT
from tests.support.writer import Writing

HOUR_S = 3_600
STEPPING = Path(__file__).parents[1] / "support" / "stepping"


async def test_steps_of_an_hour_both_ways_leave_the_log_of_snapshots_sorted(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """What other engines refuse: a snapshot before the last, a table older than its snapshot."""
    step = writing.folder / "step"
    step.write_text("0")
    path = os.pathsep.join(map(str, (STEPPING, ROOT, ROOT / "protos")))
    flow = Flow(writing, producer)
    with writing.writer(env={"PYTHONPATH": path, "K2_TEST_CLOCK": str(step)}) as writer:
        for seconds in (0, HOUR_S, -HOUR_S, 0, -HOUR_S):
            step.write_text(str(seconds))
            await flow.send(200)
            await flow.committed()
        assert writer.stop() == 0
    metadata = writing.lake.load_table(TRADES).metadata
    times = [entry.timestamp_ms for entry in metadata.snapshot_log]
    assert all(before < after for before, after in pairwise(times))
    assert times[-1] - times[0] > HOUR_S * 1_000
    assert metadata.last_updated_ms >= times[-1]
    await prove(writing)
