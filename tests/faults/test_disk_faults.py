"""The warehouse takes no files: the writer says so, holds what it has, and goes on after."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.disks import SmallDisk
from tests.support.evidence import prove
from tests.support.flow import Flow
from tests.support.polling import eventually
from tests.support.writer import Writing, status

FAULTS = {
    "No space left": (SmallDisk.fill, SmallDisk.free),
    "Read-only": (SmallDisk.forbid_writing, SmallDisk.allow_writing),
}


@pytest.mark.parametrize(
    "why", ["No space left", pytest.param("Read-only", marks=pytest.mark.whole)]
)
async def test_a_disk_that_takes_nothing_loses_nothing(
    small_disk: SmallDisk, writing: Writing, producer: AIOKafkaProducer, why: str
) -> None:
    """Files that were begun are nobody's; the buffer is written again as a whole."""
    harm, heal = FAULTS[why]
    flow = Flow(writing, producer)
    with writing.writer() as writer:
        await flow.send()
        await flow.committed()
        harm(small_disk)
        await flow.send()

        async def said() -> bool:
            return why in (await status(writer)).stopped_because

        await eventually(said, 30, what=f"the writer says {why!r}")
        await flow.send()
        assert writer.alive
        heal(small_disk)
        await flow.committed()
        assert (await status(writer)).stopped_because == ""
    await prove(writing)


@pytest.mark.whole
async def test_a_writer_that_starts_on_a_full_disk_ends_with_a_reason_or_waits(
    small_disk: SmallDisk, writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Killed while the disk is full, started while it is full, then healed."""
    flow = Flow(writing, producer)
    with writing.writer() as writer:
        await flow.send()
        await flow.committed()
        small_disk.fill()
        await flow.send()
        writer.kill()
        writer.restart()
        await flow.send()

        async def said() -> bool:
            return "No space left" in (await status(writer)).stopped_because

        await eventually(said, 30, what="the writer says that the disk is full")
        small_disk.free()
        await flow.committed()
    await prove(writing)
