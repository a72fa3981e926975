"""The governor is killed under a writer that it directs: the writer goes on by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.evidence import prove
from tests.support.flow import Flow
from tests.support.governor import governor, state_at
from tests.support.polling import eventually
from tests.support.writer import Writing, status


@pytest.mark.whole
async def test_a_writer_outlives_its_governor_and_finds_it_again(
    writing: Writing, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Killed while trades arrive, away past its directives' end, and back."""
    flow = Flow(writing, producer)
    env = {
        "K2_GOVERNOR_GROUPS": f"group-{writing.topic}",
        "K2_GOVERNOR_LAG_THRESHOLDS": "1000,2000,3000,4000",
    }
    with governor(writing.bootstrap, writing.topic, tmp_path / "run", env) as (director, address):
        await director.serving()
        with writing.writer(env={"K2_GOVERNOR_ADDRESS": address}) as writer:
            await flow.send()
            await flow.committed()
            await eventually(lambda: known(address), 20, what="the governor knows the writer")
            director.kill()
            await flow.send()
            await flow.committed()
            assert writer.alive
            director.restart()
            await director.serving()
            await eventually(lambda: known(address), 30, what="the writer is back")
            await flow.send()
            await flow.committed()
            assert (await status(writer)).stopped_because == ""
    await prove(writing)


async def known(address: str) -> bool:
    return any(
        process.report.process == "writer-1" and process.attached
        for process in (await state_at(address)).processes
    )
