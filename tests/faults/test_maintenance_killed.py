"""A writer killed at named points of its maintenance: nothing lost, doubled or left lying about."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from libs.lake.table.tables import TRADES
from tests.support.evidence import dangling, prove
from tests.support.flow import Flow
from tests.support.polling import eventually
from tests.support.processes import arm, disarm
from tests.support.sweeping import sweep
from tests.support.writer import Writing

BUSY = {
    "K2_WRITER_MAINTENANCE_INTERVAL_S": "0.3",
    "K2_WRITER_MAINTENANCE_SHARE": "1",
    "K2_WRITER_MAINTENANCE_GRACE_S": "0",
    "K2_WRITER_MAINTENANCE_QUIET_S": "0",
    "K2_WRITER_MAINTENANCE_MERGE_AT": "2",
    "K2_WRITER_MAINTENANCE_KEEP_SNAPSHOTS": "2",
    "K2_WRITER_MAINTENANCE_KEEP_HOURS": "0",
    "K2_WRITER_MAINTENANCE_FILE_GRACE_S": "0",
}
POINTS = [
    "maintenance.before_send",
    pytest.param("maintenance.mid_expiry", marks=pytest.mark.whole),
    pytest.param("maintenance.after_upload", marks=pytest.mark.whole),
    pytest.param("maintenance.after_commit", marks=pytest.mark.whole),
]
SYMBOLS = ("BTCUSDT", "BNBUSDT")


@pytest.mark.parametrize("point", POINTS)
async def test_a_writer_killed_in_its_maintenance_loses_and_leaves_nothing(
    writing: Writing, producer: AIOKafkaProducer, point: str
) -> None:
    """SIGKILL at the point; the next round finds what is there, and does it again or not."""
    flow = Flow(writing, producer, symbols=SYMBOLS)
    with writing.writer(env=BUSY) as writer:
        arm(writing.fault_dir, point)
        for _ in range(4):
            await flow.send(200)
            await flow.committed()
        writer.reached(point, writing.fault_dir)
        await flow.send(200)
        await flow.committed()
        writer.kill()
        disarm(writing.fault_dir, point)
        writer.restart()
        await flow.send(200)
        await flow.committed()
        await eventually(
            lambda: files_in(writing) <= len(SYMBOLS), 30, what="a file a partition", poll_s=0.2
        )
        assert writer.stop() == 0
    await prove(writing)
    assert not dangling(sweep(writing.lake))
    await prove(writing)


def files_in(writing: Writing) -> int:
    return len(list(writing.lake.load_table(TRADES).scan().plan_files()))
