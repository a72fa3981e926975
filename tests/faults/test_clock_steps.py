"""Somebody sets the clock by an hour, forth and back, under a running writer."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from k2.governor.v1 import governor_pb2 as pb

from libs.lake.table.tables import TRADES
from tests.support.evidence import prove
from tests.support.flow import Flow
from tests.support.governor import STEADY, governor, set_override, state_at
from tests.support.governors import leads
from tests.support.polling import eventually
from tests.support.processes import ROOT, Process
from tests.support.writer import Writing, status

HOUR_S = 3_600
STEPPING = Path(__file__).parents[1] / "support" / "stepping"


async def test_steps_of_an_hour_both_ways_leave_the_log_of_snapshots_sorted(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """What other engines refuse: a snapshot before the last, a table older than its snapshot."""
    step = writing.folder / "step"
    flow = Flow(writing, producer)
    with writing.writer(env=stepping(step)) as writer:
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


@pytest.mark.whole
async def test_a_writer_whose_clock_steps_obeys_its_governor_all_the_same(
    writing: Writing, tmp_path: Path
) -> None:
    """Directives hold by a clock that never steps: none is refused, none outlives its time."""
    step = writing.folder / "step"
    env = STEADY | {"K2_GOVERNOR_GROUPS": f"group-{writing.topic}"}
    with governor(writing.bootstrap, writing.topic, tmp_path / "run", env) as (_, address):
        await leads(address)
        with writing.writer(env={"K2_GOVERNOR_ADDRESS": address} | stepping(step)) as writer:
            await writer.serving()
            for seconds, level in ((HOUR_S, "SOFT"), (-HOUR_S, "NORMAL"), (0, "SOFT")):
                step.write_text(str(seconds))
                await set_override(address, pb.Level.Value(f"LEVEL_{level}"), "a step")
                await obeyed(writer, level)
                (process,) = (await state_at(address)).processes
                assert process.refused_because == ""


async def obeyed(writer: Process, level: str) -> None:
    async def so() -> bool:
        return (await status(writer)).level == level

    await eventually(so, what=f"the writer at {level}")


def stepping(step: Path) -> dict[str, str]:
    """Return the variables of a process whose clock goes by this file, unchanged at first."""
    step.write_text("0")
    path = os.pathsep.join(map(str, (STEPPING, ROOT, ROOT / "protos")))
    return {"PYTHONPATH": path, "K2_TEST_CLOCK": str(step)}
