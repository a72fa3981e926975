"""Mishaps at random on a running K2, then a proof of every position: python -m tests.faults.soak.

Two mishaps at most are under way at once, drawn from a seed that is printed; trades arrive and
queries are asked throughout. In the end all is healed and drained, and the oracle judges.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.support.asker import Asker
from tests.support.disks import SmallDisk, mounted
from tests.support.evidence import dangling, evidence_of
from tests.support.mishaps import MISHAPS, TOLERATED, Mishap
from tests.support.oracle import Violation, tally, undrained, violations
from tests.support.stack import Stack, standing
from tests.support.sweeping import sweep

ROWS_A_BEAT = 40
BEAT_S = 0.25
LANES = 2
REST_S = 3.0
DRAIN_TIMEOUT_S = 240.0
MINUTE_S = 60


@dataclass
class Story:
    """What has happened so far."""

    seed: int
    minutes: float
    since_s: float = field(default_factory=time.monotonic)
    now: dict[int, str] = field(default_factory=dict)
    survived: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    got_in_the_way: Counter[str] = field(default_factory=Counter)
    stage: str = "starting"

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.since_s


async def main(minutes: float, seed: int, console: Console) -> int:
    """Run one soak; return the exit code."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    console.print(f"soak of {minutes:g} minutes, seed {seed}: make soak SEED={seed} repeats it")
    story = Story(seed, minutes)
    with folder_for(console) as (folder, disk):
        async with standing(folder, seed, disk) as stack:
            asker = Asker(stack, Random(seed))
            with Live(console=console, get_renderable=lambda: line(story, stack, asker)):
                await harmed(stack, story, asker)
                found, counted = await judged(stack, story)
        console.print()
        report(console, story, stack, asker, counted)
        found += asker.violations()
        for violation in found:
            console.print(f"[red]{violation}[/red]", soft_wrap=True)
        console.print("[red]it did not hold[/red]" if found else "[green]everything held[/green]")
        return 1 if found else 0


@contextmanager
def folder_for(console: Console) -> Iterator[tuple[Path, SmallDisk | None]]:
    """Give a folder, its warehouse on a disk of its own where this user may mount one."""
    with tempfile.TemporaryDirectory(prefix="k2-soak-") as name, ExitStack() as stack:
        warehouse = Path(name) / "warehouse"
        warehouse.mkdir()
        disk = None
        try:
            disk = stack.enter_context(mounted(warehouse, size="512m"))
        except OSError as error:
            console.print(f"the disk is never full in this run: {error}")
        yield Path(name), disk


async def harmed(stack: Stack, story: Story, asker: Asker) -> None:
    """Let mishaps happen until the time is over, and all of them end."""
    for name in ("governor-1", "query-1", *(writer.name for writer in stack.writers)):
        await stack.processes[name].serving()
    story.since_s, story.stage = time.monotonic(), "harming"
    async with asyncio.TaskGroup() as group:
        always = [
            group.create_task(stack.guard()),
            group.create_task(feed(stack, story)),
            group.create_task(asker.run()),
        ]
        locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        random = Random(story.seed)
        lanes = [
            asyncio.create_task(mishaps(stack, story, number, Random(random.random()), locks))
            for number in range(LANES)
        ]
        await asyncio.gather(*lanes)
        always[1].cancel()
        story.stage = "draining"
        await drained(stack)
        for task in always:
            task.cancel()


async def feed(stack: Stack, story: Story) -> None:
    while True:
        try:
            await stack.flow.send(ROWS_A_BEAT)
        except TOLERATED as error:
            story.got_in_the_way[f"producing: {type(error).__name__}"] += 1
        await asyncio.sleep(BEAT_S)


async def mishaps(
    stack: Stack, story: Story, lane: int, random: Random, locks: dict[str, asyncio.Lock]
) -> None:
    """Have one after the other happen, with a rest between."""
    kinds = {k: m for k, m in MISHAPS.items() if stack.disk is not None or k != "the disk full"}
    while story.elapsed_s < story.minutes * MINUTE_S:
        name = random.choices(list(kinds), [mishap.weight for mishap in kinds.values()])[0]
        if not locks[kinds[name].needs].locked():
            async with locks[kinds[name].needs]:
                await one(stack, story, lane, random, name, kinds[name])
        await asyncio.sleep(random.uniform(0, REST_S))


async def one(
    stack: Stack, story: Story, lane: int, random: Random, name: str, mishap: Mishap
) -> None:
    story.now[lane], since_s = name, time.monotonic()
    try:
        said = await mishap.harm(stack, random)
        story.survived[name] += 1
        if mishap.tells:
            story.survived[f"  {said or 'none in time'}"] += 1
    except TOLERATED as error:
        story.got_in_the_way[f"{name}: {type(error).__name__}"] += 1
    finally:
        story.seconds[name] += time.monotonic() - since_s
        del story.now[lane]


async def drained(stack: Stack) -> None:
    """Wait until the table is at the end of the log and owes nothing; trouble shows in the end."""
    deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with suppress(*TOLERATED):
            if not undrained(await evidence_of(stack.writing, stack.log)):
                return
        await asyncio.sleep(2)


async def judged(stack: Stack, story: Story) -> tuple[list[Violation], dict[str, int]]:
    """Stop the writers, and have every position looked at."""
    story.stage = "judging"
    found = []
    for writer in stack.writers:
        stack.down.add(writer.name)
        if (code := await asyncio.to_thread(writer.stop, 60)) != 0:
            found.append(Violation("a writer did not stop in order", 1, (f"exit code {code}",)))
    evidence = await evidence_of(stack.writing, stack.log)
    found += violations(evidence)
    if waiting := undrained(evidence):
        found.append(Violation("it does not drain", len(waiting), tuple(waiting[:5])))
    table = await asyncio.to_thread(sweep, stack.writing.lake)
    if left := sorted(map(str, dangling(table))):
        found.append(Violation("a file is nobody's", len(left), tuple(left[:5])))
    return found, tally(evidence)


def line(story: Story, stack: Stack, asker: Asker) -> Text:
    """Say on one line what goes on."""
    under_way = " + ".join(story.now.values()) or story.stage
    sent = sum(stack.flow.sent.values())
    happened = sum(n for name, n in story.survived.items() if not name.startswith(" "))
    left_s = max(0.0, story.minutes * MINUTE_S - story.elapsed_s)
    return Text(
        f"seed {story.seed}  {left_s:4.0f} s left  {happened} mishaps  {sent:,} trades"
        f"  {asker.answers} answers  now: {under_way}"
    )


def report(
    console: Console, story: Story, stack: Stack, asker: Asker, counted: dict[str, int]
) -> None:
    """Print what it survived, and what became of all positions."""
    table = Table(title=f"survived in {story.elapsed_s / MINUTE_S:.1f} minutes, seed {story.seed}")
    for column in ("mishap", "times", "seconds"):
        table.add_column(column, justify="left" if column == "mishap" else "right")
    for name in MISHAPS:
        if times := story.survived[name]:
            table.add_row(name, str(times), f"{story.seconds[name]:.0f}")
    console.print(table)
    notes = {
        "positions": counted,
        "killed at": {k.strip(): n for k, n in story.survived.items() if k.startswith(" ")},
        "queries": asker.outcomes,
        "ended by themselves": stack.ended,
        "in the way": story.got_in_the_way,
    }
    for title, counts in notes.items():
        told = ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items())) or "none"
        console.print(f"[bold]{title}[/bold]: {told}", highlight=False)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    return parser.parse_args()


if __name__ == "__main__":
    asked = arguments()
    sys.exit(asyncio.run(main(asked.minutes, asked.seed, Console())))
