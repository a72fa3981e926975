"""A writer under orders: what waits at each level, and that it says so in the table."""

from __future__ import annotations

from libs.degradation.level import Level
from libs.degradation.policy import load_policy
from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.shedding import CRITICAL, HIGH, LOW, NORMAL, PARTITION, Shedding
from tests.support.writer import has_partitions, status

LEVELS = {
    Level.SOFT: (),
    Level.GRACEFUL: (LOW,),
    Level.AGGRESSIVE: (LOW, NORMAL, HIGH),
    Level.CIRCUIT_BREAK: (LOW, NORMAL, HIGH),
}


async def test_each_level_of_lag_puts_off_its_classes_and_stops_nothing(
    shedding: Shedding,
) -> None:
    """Every position is passed; what waits is named in the ledger of the commit that passes it."""
    with shedding.writer() as writer:
        put_off: list[tuple[str, ...]] = []
        for level, waiting in LEVELS.items():
            await shedding.order(writer, lag=level)
            await shedding.produce(2_000)
            await shedding.committed()
            shedding.prove_stored_or_owed()
            put_off += [waiting] if waiting else []
        ranges = shedding.owed()
    assert {r.policy.partition("@")[0] for r in ranges} == {"test"}
    assert [r.symbols for r in ranges] == [tuple(sorted(s)) for s in ((LOW,), (LOW, NORMAL, HIGH))]
    assert [r.classes for r in ranges] == [("low",), ("high", "normal", "low")]
    assert [r.records for r in ranges] == [500, 3_000]


async def test_a_batch_that_waits_whole_is_committed_without_a_file(shedding: Shedding) -> None:
    """The seam goes on, the table has no row of it."""
    with shedding.writer() as writer:
        await shedding.order(writer, lag=Level.AGGRESSIVE)
        await shedding.produce(4)
        await shedding.committed()
        assert [row[0] for row in shedding.stored()] == [CRITICAL]
        files = shedding.index().files
        await shedding.produce_only(LOW, 50)
        await shedding.committed()
        shedding.prove_stored_or_owed()
        assert len(shedding.index().files) == len(files)


async def test_an_order_by_another_policy_is_refused(shedding: Shedding) -> None:
    """What was obeyed before goes on; the writer's own version is obeyed."""
    own = load_policy(str(shedding.policy())).version
    director = shedding.director
    with shedding.writer() as writer:
        await shedding.order(writer, lag=Level.AGGRESSIVE)
        director.order(policy="other@0123456789ab")
        await eventually(lambda: director.refusals, 30, what="the order refused")
        assert own in director.refusals[0]
        await shedding.produce(400)
        await shedding.committed()
        assert [r.records for r in shedding.owed()] == [300]
        sequence = director.order(lag=Level.GRACEFUL, policy=own)
        await eventually(lambda: director.applied["writer-1"] >= sequence, 30, what="obeyed")
        assert (await status(writer)).level == "GRACEFUL"


async def test_memory_pauses_what_can_wait_and_nothing_is_lost_by_it(shedding: Shedding) -> None:
    """GRACEFUL reads on where a symbol is critical, AGGRESSIVE nowhere; the group stays ours."""
    with shedding.writer() as writer:
        await has_partitions(writer, 16, 16)
        await shedding.produce(400)
        await shedding.committed()
        await shedding.order(writer, memory=Level.GRACEFUL)
        await eventually(
            lambda: read_on(writer, {PARTITION}), timeout_s=30, what="one partition read on"
        )
        await shedding.produce(400)
        await shedding.committed()
        await shedding.order(writer, memory=Level.AGGRESSIVE)
        await eventually(lambda: read_on(writer, set()), timeout_s=30, what="nothing read on")
        await shedding.produce(400)
        held = await status(writer)
        assert sum(p.decoded_offset for p in held.partitions) == 800
        await shedding.order(writer)
        await shedding.committed()
    assert shedding.stored() == shedding.produced
    assert not shedding.owed()


async def read_on(writer: Process, partitions: set[int]) -> bool:
    return {p.partition for p in (await status(writer)).partitions if not p.paused} == partitions
