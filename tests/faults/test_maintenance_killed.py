"""A writer killed in the midst of maintenance: the next one goes on, and every row stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from k2.writer.v1 import maintenance_pb2, writer_pb2_grpc

from libs.lake.expiry import reached_by_kept
from libs.lake.reach import Reach
from libs.lake.tables import TRADES
from libs.rpc import client
from tests.support.evidence import prove
from tests.support.flow import Flow
from tests.support.polling import eventually
from tests.support.processes import Process, arm, disarm
from tests.support.writer import Writing

# The trades are of 2024: their day is over, and two small files are enough to be compacted.
EAGER = {
    "K2_WRITER_MAINTENANCE_INTERVAL_S": "0.2",
    "K2_WRITER_MAINTENANCE_SHARE": "1",
    "K2_WRITER_MAINTENANCE_QUIET_S": "0",
    "K2_WRITER_MAINTENANCE_FILE_GRACE_S": "1",
    "K2_WRITER_MAINTENANCE_KEEP_SNAPSHOTS": "3",
    "K2_WRITER_MAINTENANCE_KEEP_HOURS": "0",
}
POINTS = [
    "maintenance.before_send",
    "maintenance.mid_expiry",
    pytest.param("maintenance.after_upload", marks=pytest.mark.whole),
    pytest.param("maintenance.after_commit", marks=pytest.mark.whole),
]


@pytest.mark.parametrize("point", POINTS)
async def test_a_writer_killed_in_maintenance_loses_and_doubles_nothing(
    writing: Writing, producer: AIOKafkaProducer, point: str
) -> None:
    """SIGKILL at the point; the table is sound, and maintenance goes on after the restart."""
    flow = Flow(writing, producer)
    with writing.writer(env=EAGER) as writer:
        await flow.send(200)
        await flow.committed()
        arm(writing.fault_dir, point)
        for _ in range(4):
            await flow.send(200)
            await flow.committed()
        writer.reached(point, writing.fault_dir)
        writer.kill()
        disarm(writing.fault_dir, point)
        writer.restart()
        await flow.send(200)
        await flow.committed()
        await expires_and_compacts(writer)
    await prove(writing)
    assert not dangling(writing)


async def expires_and_compacts(writer: Process) -> None:
    """Wait until the writer has compacted and deleted files since its start."""
    door = await writer.door()
    assert door.grpc is not None
    async with client.channel(door.grpc) as channel:
        stub = writer_pb2_grpc.WriterServiceStub(channel)

        async def done() -> bool:
            now = await client.call(
                stub.GetMaintenance, maintenance_pb2.GetMaintenanceRequest(), timeout_s=5
            )
            return now.compactions > 0 and now.files_deleted > 0

        await eventually(done, 30, what="compacted and expired", poll_s=0.2)


def dangling(writing: Writing) -> list[str]:
    """Return what kept snapshots refer to and is not there."""
    table = writing.lake.load_table(TRADES)
    reached = reached_by_kept(table, Reach(table.io))
    paths = (location.removeprefix("file://") for location in reached.deepest_first())
    return [path for path in paths if not Path(path).exists()]
