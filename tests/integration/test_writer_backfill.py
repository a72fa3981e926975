"""What was put off is written at NORMAL, each row once, beside live traffic."""

from __future__ import annotations

from libs.degradation.level import Level
from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.shedding import LOW, Shedding, backfill


async def shown(writer: Process, ranges: list[tuple[int, int]]) -> bool:
    """Say whether a writer shows these open ranges, waiting for NORMAL."""
    found = (await backfill(writer)).ranges
    waiting = all(one.state == "WAITING" for one in found)
    return waiting and [(one.start_offset, one.end_offset) for one in found] == ranges


async def test_what_was_put_off_is_written_at_normal(shedding: Shedding) -> None:
    """Not before; the table then holds every row once, and nothing is owed."""
    with shedding.writer() as writer:
        await shedding.order(writer, lag=Level.GRACEFUL)
        await shedding.produce(4_000)
        await shedding.committed()
        await shedding.order(writer, lag=Level.AGGRESSIVE)
        await shedding.produce(4_000)
        await shedding.committed()
        shedding.prove_stored_or_owed()
        assert {row[0] for row in shedding.stored()} != {LOW}
        await eventually(lambda: shown(writer, [(0, 4_000), (4_000, 8_000)]), what="ranges shown")
        await shedding.order(writer)
        await shedding.produce(4_000)
        await shedding.committed()
        await shedding.settled()
        await eventually(lambda: shown(writer, []), what="nothing shown")
        assert (await backfill(writer)).backfilled_records == 4_000
    assert shedding.stored() == shedding.produced
