"""`catalog`: nobody can write to the Iceberg catalog for a while, then nobody can even read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tools.chaos import promises
from tools.chaos.aftermath import Findings, common
from tools.chaos.ground import Ground
from tools.chaos.outages import catalog_away, catalog_locked
from tools.chaos.promises import Promise
from tools.chaos.story import Kind

SAID_TIMEOUT_S = 40.0
GOES_ON_S = 5.0
COMMIT_TIMEOUT_S = 60.0
OUTAGES: dict[str, Callable[[Path], AbstractContextManager[None]]] = {
    "locked: nobody can write to it": catalog_locked,
    "away: nobody can read it either": catalog_away,
}


async def harm(ground: Ground) -> None:
    """Take the catalog away, twice, each time until the writer says so and some seconds more."""
    for what, outage in OUTAGES.items():
        await without_catalog(ground, what, outage)
    await ground.until_normal(COMMIT_TIMEOUT_S)


async def without_catalog(
    ground: Ground, what: str, outage: Callable[[Path], AbstractContextManager[None]]
) -> None:
    ground.story.begins(f"the catalog is {what}")
    with outage(ground.setting.layout.data / "catalog.db"):
        await ground.until(
            lambda sight: bool(sight.written.stopped_because), SAID_TIMEOUT_S, "the writer says so"
        )
        ground.story.note(Kind.SEEN, f"the writer: {ground.sight.written.stopped_because}")
        await asyncio.sleep(GOES_ON_S)
        sight = ground.sight
        before = sight.written.commits
        ground.story.note(
            Kind.SEEN,
            f"queries go on: {sight.tail_rows:,} rows wait in the tail; causes"
            f" {', '.join(sight.governed.causes) or 'none'}",
        )
    ground.story.note(Kind.SEEN, "the catalog is back")
    await ground.until(
        lambda sight: sight.written.commits > before and not sight.written.stopped_because,
        COMMIT_TIMEOUT_S,
        "the writer commits again",
    )


def judged(ground: Ground, findings: Findings) -> Iterator[Promise]:
    """Hold what was seen against what is promised."""
    said = [event.text for event in ground.story.events if event.text.startswith("the writer: ")]
    yield Promise(
        "the writer says why it does not commit",
        len(said) == len(OUTAGES),
        "; ".join(said) or "it said nothing",
    )
    shed = sum(findings.last.shed.values())
    yield Promise("nothing is put off, for that would not help", shed == 0, f"{shed:,} put off")
    yield promises.normal_in_the_end(ground.watch.levels.in_order)
    yield from common(ground, findings)
