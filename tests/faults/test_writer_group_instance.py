"""A writer whose group knows it by a name of its own comes back to its own partitions."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from libs.runtime.service import EXIT_CONFIG
from tests.support.evidence import prove
from tests.support.writer import Writing, has_partitions

# Longer than any test: whoever has a killed writer's partitions did not wait for it.
NEVER_MS = 600_000


def named(name: str) -> dict[str, str]:
    return {"K2_WRITER_GROUP_INSTANCE": name, "K2_WRITER_SESSION_TIMEOUT_MS": str(NEVER_MS)}


@pytest.mark.whole
async def test_a_killed_writers_successor_has_its_partitions_without_waiting_for_the_group(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Whichever of two it is, one of them leads the group; the other keeps what it has."""
    with (
        writing.writer("writer-1", env=named("writer-1")) as first,
        writing.writer("writer-2", env=named("writer-2")) as second,
    ):
        await has_partitions(first, 8, 8)
        await has_partitions(second, 8, 8)
        for killed in (first, second, first):
            await writing.produce(producer)
            killed.kill()
            killed.restart()
            await has_partitions(killed, 8, 8)
        await writing.produce(producer)
        await writing.all_committed()
        assert first.stop() == 0
        assert second.stop() == 0
    writing.prove_complete()
    await prove(writing)


@pytest.mark.whole
async def test_of_two_writers_with_one_name_the_first_ends_and_says_which(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """The second goes on with all partitions, and nothing is lost or written twice."""
    with writing.writer("writer-1", env=named("same-name")) as first:
        await has_partitions(first, 16, 16)
        await writing.produce(producer)
        with writing.writer("writer-2", env=named("same-name")) as second:
            assert first.wait() == EXIT_CONFIG
            told = first.log_text()
            assert "under the name same-name" in told
            assert "K2_WRITER_GROUP_INSTANCE" in told
            await has_partitions(second, 16, 16)
            await writing.produce(producer)
            await writing.all_committed()
            assert second.stop() == 0
    writing.prove_complete()
    await prove(writing)
