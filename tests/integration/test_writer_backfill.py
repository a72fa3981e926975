"""What was put off is written at NORMAL, each row once, beside live traffic."""

from __future__ import annotations

import asyncio
import os
import subprocess

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from libs.degradation.level import Level
from libs.lake.commits.seam import TopicPartition
from tests.support.cli import COMMAND
from tests.support.damage import segment_of, turned_over
from tests.support.polling import eventually
from tests.support.processes import Process, arm, disarm
from tests.support.shedding import (
    CRITICAL,
    HIGH,
    LOW,
    NORMAL,
    PARTITION,
    Shedding,
    backfill,
)
from tests.support.writer import counted, status


def printed(writer: Process) -> str:
    """Return what `k2 backfill status` prints."""
    environment = {"K2_RUN_DIR": str(writer.run_dir), "COLUMNS": "200"}
    command = [str(COMMAND), "backfill", "status", "--output", "table"]
    return subprocess.check_output(command, env=os.environ | environment, text=True)


async def shown(writer: Process, ranges: list[tuple[int, int]]) -> bool:
    """Say whether a writer shows these open ranges, waiting for NORMAL."""
    found = (await backfill(writer)).ranges
    waiting = all(one.state == "WAITING" for one in found)
    return waiting and [(one.start_offset, one.end_offset) for one in found] == ranges


async def backfilled(writer: Process, records: int) -> bool:
    return (await backfill(writer)).backfilled_records == records


async def put_off_twice(shedding: Shedding, writer: Process) -> None:
    """Leave two open ranges of 4,000 positions, the second of more classes."""
    for level in (Level.GRACEFUL, Level.AGGRESSIVE):
        await shedding.order(writer, lag=level)
        await shedding.produce(4_000)
        await shedding.committed()


async def test_what_was_put_off_is_written_at_normal(shedding: Shedding) -> None:
    """Not before; the table then holds every row once, and nothing is owed."""
    with shedding.writer() as writer:
        await put_off_twice(shedding, writer)
        shedding.prove_stored_or_owed()
        assert {row[0] for row in shedding.stored()} != {LOW}
        await eventually(
            lambda: shown(writer, [(0, 4_000), (4_000, 8_000)]), timeout_s=30, what="ranges shown"
        )
        assert "4,000 records wait in 2 ranges" in await asyncio.to_thread(printed, writer)
        await shedding.order(writer)
        await shedding.produce(4_000)
        await shedding.committed()
        await shedding.settled()
        await eventually(lambda: shown(writer, []), timeout_s=30, what="nothing shown")
        await eventually(lambda: backfilled(writer, 4_000), what="4,000 counted")
    assert shedding.stored() == shedding.produced


async def test_a_batch_that_is_none_holds_up_no_other_range(
    shedding: Shedding, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It is named, tried again, and written at last."""
    topic = shedding.writing.topic
    with shedding.writer(env={"K2_WRITER_PROBE_EVERY_S": "0.5"}) as writer:
        await put_off_twice(shedding, writer)
        damaged = segment_of(tmp_path_factory, topic, PARTITION)
        turned_over(damaged, 100)
        await shedding.order(writer)

        async def one_left() -> bool:
            found = await backfill(writer)
            why = f"offset 0 of {topic}" in found.stopped_because
            return why and [one.start_offset for one in found.ranges] == [0]

        await eventually(one_left, what="the other range is written")
        turned_over(damaged, 100)
        await shedding.settled()
    assert shedding.stored() == shedding.produced


async def retention(shedding: Shedding, config: dict[str, str]) -> None:
    """Set how long the broker keeps the topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=shedding.writing.bootstrap)
    await admin.start()
    try:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, shedding.writing.topic, configs=config)]
        )
    finally:
        await admin.close()


async def retention_known(writer: Process) -> bool:
    return any(owed.retention_used for owed in (await backfill(writer)).ranges)


async def test_retention_is_not_waited_for(shedding: Shedding) -> None:
    """From half of it on a range is worked at any level; from four fifths nothing is put off."""
    folder, point = shedding.writing.fault_dir, "backfill.after_fetch"
    arm(folder, point)
    await retention(shedding, {"retention.ms": "12000"})
    with shedding.writer() as writer:
        await shedding.order(writer, lag=Level.GRACEFUL)
        await shedding.produce(2_000)
        await shedding.committed()
        await eventually(lambda: retention_known(writer), timeout_s=30, what="retention known")
        # The broker itself shall not delete meanwhile.
        await retention(shedding, {"retention.ms": "-1"})
        await asyncio.to_thread(writer.reached, point, folder)
        (owed,) = (await backfill(writer)).ranges
        assert owed.retention_used >= 0.5

        async def alarmed() -> bool:
            found = await backfill(writer)
            return [r.state for r in found.ranges] == ["ALARM"] and bool(found.spared_topics)

        await eventually(alarmed, 60, what="alarm")
        await shedding.produce(400)
        await shedding.committed()
        assert len(shedding.of(LOW)) == 600
        assert [r.records for r in shedding.owed()] == [500]
        disarm(folder, point)
        await shedding.settled()
        assert (await status(writer)).level == "GRACEFUL"
        await eventually(lambda: "retention_near" in writer.log_text())
    assert shedding.stored() == shedding.produced


async def test_what_the_log_forgot_of_a_range_is_lost_and_the_rest_written(
    shedding: Shedding,
) -> None:
    """The ledger says of which symbols; the alarm is in log and status."""
    with shedding.writer() as writer:
        await shedding.order(writer, lag=Level.AGGRESSIVE)
        await shedding.produce(4_000)
        await shedding.committed()
        await shedding.forget(1_000)
        await shedding.order(writer)
        await shedding.settled()
        await counted(writer, lost_records=1_000)
        await eventually(lambda: '"records_lost"' in writer.log_text())
    place = TopicPartition(shedding.writing.topic, PARTITION)
    (lost,) = shedding.index().ledger.book(place).lost
    assert (lost.start, lost.end, set(lost.symbols)) == (0, 1_000, {HIGH, NORMAL, LOW})
    assert shedding.stored() == [
        row for row in shedding.produced if row[2] >= 1_000 or row[0] == CRITICAL
    ]


async def test_poison_that_was_put_off_goes_to_the_dead_letters(shedding: Shedding) -> None:
    """Under its symbol, when its range is written; a burst of it waits for whoever can mend it."""
    writing = shedding.writing
    with shedding.writer(env={"K2_WRITER_BURST_RECORDS": "20"}) as writer:
        await shedding.order(writer, lag=Level.AGGRESSIVE)
        await shedding.poison(LOW, 1)
        await shedding.produce(400)
        await shedding.committed()
        await shedding.order(writer)
        await shedding.settled()
        place = TopicPartition(writing.topic, PARTITION)
        (dead,) = shedding.index().ledger.book(place).dead
        assert (dead.start, dead.end, dead.symbol, dead.reason) == (0, 1, LOW, "FRAMING")
        await shedding.order(writer, lag=Level.AGGRESSIVE)
        await shedding.poison(LOW, 40)
        await shedding.committed()
        await shedding.order(writer)

        async def says_why() -> bool:
            return "40 of 40 records" in (await backfill(writer)).stopped_because

        await eventually(says_why, 60, what="the burst is held")
        assert [r.records for r in shedding.owed()] == [40]
    assert shedding.stored() == shedding.produced
