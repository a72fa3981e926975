"""The maintainer: whose files it keeps, when it gives way, what it says it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from libs.degradation.level import Level
from libs.kafka.topics import TRADES_BINANCE
from libs.lake.maintenance.compaction import Partition
from libs.lake.maintenance.retention import Retention
from libs.lake.maintenance.rewriting import Pace
from libs.lake.maintenance.stillness import Stillness
from libs.market.errors import InvalidError
from services.writer.maintenance.courtesy import Courtesy, YieldedError
from services.writer.maintenance.maintainer import Maintainer, Rhythm, Surroundings
from services.writer.maintenance.servicer import step_message, tasks_of
from services.writer.maintenance.steps import Outcome, Step, Task
from tests.support.maintenance import BUCKET, Kept, kept_in
from tests.support.polling import eventually

OWN = (TRADES_BINANCE, BUCKET)
FIRST = (TRADES_BINANCE, 0)


@dataclass
class World:
    """What the maintainer sees around it."""

    assigned: set[tuple[str, int]] = field(default_factory=lambda: {OWN, FIRST})
    level: Level = Level.NORMAL
    committing: bool = False


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    made = kept_in(tmp_path)
    made.append(commits=4)
    return made


def maintainer_of(kept: Kept, world: World, *, interval_s: float = 60) -> Maintainer:
    around = Surroundings(
        lambda: frozenset(world.assigned), lambda: world.level, lambda: world.committing
    )
    rhythm = Rhythm(interval_s=interval_s, share=1.0)
    return Maintainer(kept.maintenance, (TRADES_BINANCE,), around, rhythm, kept.clock)


@asynccontextmanager
async def at_work(maintainer: Maintainer) -> AsyncIterator[Maintainer]:
    task = asyncio.create_task(maintainer.run())
    try:
        yield maintainer
    finally:
        await maintainer.stop()
        await task
        maintainer.release()


async def run_asked(maintainer: Maintainer, *tasks: Task) -> list[Step]:
    """Ask for a run, and return its steps, newest first."""
    number = maintainer.ask(tasks, every_day=True)
    await eventually(lambda: maintainer.journal.last_ended_run >= number, 30, what="run ended")
    return list(maintainer.journal.ended)


async def test_it_compacts_the_partitions_it_has(kept: Kept) -> None:
    """And no others: those are another writer's."""
    world = World(assigned={FIRST})
    async with at_work(maintainer_of(kept, world)) as maintainer:
        assert await run_asked(maintainer, Task.COMPACT) == []
        world.assigned.add(OWN)
        (step,) = await run_asked(maintainer, Task.COMPACT)
    assert (step.outcome, step.files, step.files_after, step.rows) == (Outcome.DONE, 4, 1, 160)
    assert len(kept.history.index().files) == 1


async def test_the_owner_of_partition_0_expires(kept: Kept) -> None:
    """One writer does, whoever has that partition now."""
    kept.append(commits=6)
    world = World(assigned={OWN})
    async with at_work(maintainer_of(kept, world)) as maintainer:
        assert await run_asked(maintainer, Task.EXPIRE) == []
        assert not maintainer.leads
        world.assigned.add(FIRST)
        steps = await run_asked(maintainer, Task.EXPIRE)
        assert not any(step.files for step in steps), "it has seen no snapshot gone before"
        kept.clock.advance(3_600)
        steps = await run_asked(maintainer, Task.EXPIRE)
    assert maintainer.journal.files_deleted == sum(step.files for step in steps) > 0


async def test_nothing_is_done_from_soft_on(kept: Kept) -> None:
    """A run that was asked for waits, says why, and goes on at NORMAL."""
    world = World(level=Level.SOFT)
    async with at_work(maintainer_of(kept, world, interval_s=0.01)) as maintainer:
        maintainer.ask([Task.COMPACT], every_day=True)
        await eventually(lambda: "SOFT" in maintainer.waits_because, 5, what="it waits")
        assert len(kept.history.index().files) == 4
        world.level = Level.NORMAL
        await eventually(lambda: maintainer.journal.compactions == 1, 30, what="compacted")


async def test_a_plan_changes_nothing(kept: Kept) -> None:
    """What would be done is told as the run then does it."""
    before = kept.files()
    maintainer = maintainer_of(kept, World())
    (step,) = await maintainer.would_do([Task.COMPACT], every_day=True)
    assert (step.outcome, step.files, step.rows) == (Outcome.PLANNED, 4, 160)
    assert kept.files() == before
    maintainer.release()


async def test_what_failed_is_told_and_left_alone_until_somebody_asks(kept: Kept) -> None:
    """A damaged file does not keep the maintainer busy, nor end its process."""
    victim, mend = damaged(kept)
    async with at_work(maintainer_of(kept, World(), interval_s=0.01)) as maintainer:
        await eventually(lambda: maintainer.journal.failures, 30, what="failed")
        (failed,) = (step for step in maintainer.journal.ended if step.outcome is Outcome.FAILED)
        assert victim in failed.reason
        mend()
        (step, *_) = await run_asked(maintainer, Task.COMPACT)
        assert step.outcome is Outcome.DONE
        assert maintainer.journal.failures == 1


def damaged(kept: Kept) -> tuple[str, Callable[[], object]]:
    """Cut a data file short; return its name and what mends it."""
    victim = Path(kept.history.index().files[0].path)
    whole = victim.read_bytes()
    victim.write_bytes(whole[:50])
    return victim.name, lambda: victim.write_bytes(whole)


def test_work_stops_between_two_pieces_when_it_must() -> None:
    """And waits for a commit before that, but not for ever."""
    why = ""
    courtesy = Courtesy(lambda: why, lambda: False, share=1.0)
    courtesy.between_pieces(100)
    why = "the level is SOFT"
    with pytest.raises(YieldedError, match="SOFT"):
        courtesy.between_pieces(100)
    assert courtesy.rows == 200


def test_a_job_given_up_leaves_nothing(kept: Kept) -> None:
    """Its files are gone, and the table is as it was."""
    (job,) = kept.jobs()
    before, head = kept.files(), kept.table.metadata.current_snapshot_id
    courtesy = Courtesy(lambda: "the writer stops", lambda: False, share=1.0)
    with pytest.raises(YieldedError):
        kept.maintenance.compact(job, Pace(courtesy.between_pieces))
    assert (kept.files(), kept.table.metadata.current_snapshot_id) == (before, head)


def test_a_partition_is_still_once_nothing_comes(kept: Kept) -> None:
    """By what was seen: each change begins anew."""
    files, partition = kept.history.index().files, Partition(19_943, BUCKET, *OWN)
    still = Stillness()
    still.look(files, 10.0)
    assert still.unchanged_s(partition) == 0
    still.look(files, 25.0)
    assert still.unchanged_s(partition) == 15
    still.look(files[:-1], 30.0)
    assert still.unchanged_s(partition) == 0
    assert still.unchanged_s(replace_day(partition)) == 0


def replace_day(partition: Partition) -> Partition:
    return partition._replace(day=1)


def test_retention_keeps_the_newest_the_hours_and_the_tagged(kept: Kept) -> None:
    """And grows no further, however long the table lives."""
    keeping = Retention(newest=3, hours=24, at_once=1)
    metadata = kept.table.metadata
    snapshot = metadata.snapshots[-1]
    hour_ms = 3_600_000
    made = [
        snapshot.model_copy(
            update={"snapshot_id": n + 1, "timestamp_ms": 1_800_000_000_000 + n * hour_ms // 4}
        )
        for n in range(400)
    ]
    refs = {
        name: ref.model_copy(update={"snapshot_id": 400}) for name, ref in metadata.refs.items()
    }
    refs["audit"] = next(iter(refs.values())).model_copy(update={"snapshot_id": 7})
    aged = metadata.model_copy(update={"snapshots": made, "refs": refs})
    left = set(range(1, 401)) - set(keeping.expirable(aged))
    assert {7, 398, 399, 400} <= left
    assert 25 <= len(left) <= 30
    assert replace(keeping, at_once=1_000).expirable(aged) == []


def test_tasks_and_steps_over_the_wire() -> None:
    """A number that is no task is refused with the field named."""
    assert tasks_of([1, 3]) == [Task.COMPACT, Task.REMOVE_ORPHANS]
    with pytest.raises(InvalidError) as refused:
        tasks_of([0])
    assert refused.value.facts["field"] == "tasks"
    for outcome in Outcome:
        message = step_message(Step(Task.EXPIRE, "old", outcome=outcome, files=3))
        assert message.files == 3
        assert not message.HasField("end_time")
