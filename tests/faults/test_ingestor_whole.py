"""The ingestor's troubles seen from the table: through the whole of K2, to the answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.polling import eventually
from tests.support.whole import all_arrived, whole_k2
from tools.cli.doors.watching import Flow, flow_of
from tools.cli.parts.fleet import Fleet
from tools.cli.session.proof import prove
from tools.cli.session.source import Source
from tools.simulator import truth


@pytest.mark.whole
@pytest.mark.timeout(300)
async def test_kafka_asleep_and_an_ingestor_killed_leave_the_table_whole(tmp_path: Path) -> None:
    """Spooled, killed with the spool in use, healed: every trade is stored once, digit by digit."""
    source = Source(seed=51, symbols=4, duration_s=40, trades_per_second=1_500, pace="1")
    expected = truth.expected(source.session())
    async with whole_k2(tmp_path, source) as fleet:
        await seen(fleet, lambda flow: (flow.received or 0) > 1_000)
        kafka = fleet.broker_pid
        assert kafka is not None
        os.kill(kafka, signal.SIGSTOP)
        try:
            await seen(fleet, lambda flow: (flow.spooled_bytes or 0) > 100_000)
            os.kill(fleet.door("ingestor").pid, signal.SIGKILL)
        finally:
            os.kill(kafka, signal.SIGCONT)
        await all_arrived(fleet, sum(each.count for each in expected.values()))
        await seen(fleet, lambda flow: flow.open_gaps == 0 and flow.spooled_bytes == 0)
        proof = await prove(expected, fleet.door("query").grpc or "")
    assert all(proof.holds_for(each) for each in expected), proof


async def seen(fleet: Fleet, shows: Callable[[Flow], bool]) -> None:
    """Wait until the parts say so."""

    async def says_so() -> bool:
        return shows(await flow_of(fleet.doors().values()))

    await eventually(says_so, 90, poll_s=0.1)
