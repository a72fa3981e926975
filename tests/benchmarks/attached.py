"""Processes that do nothing but report to a governor and obey: the telemetry of writers alone.

`python -m tests.benchmarks.attached <governor> <how many> <topic>`. A line on stdin, of a level and
where each partition ends by now, is answered with a line once all of them apply that level.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from libs.degradation.agent import DegradationAgent
from libs.degradation.level import Level
from libs.degradation.messages import OwnReport
from libs.kafka.topics import PARTITIONS
from services.writer.intake.consumer import PartitionView
from services.writer.reporting import own_report

GROUP = "k2-writer"
POLL_S = 0.005


class Writer:
    """What a writer tells of sixteen partitions, of which it has decoded nothing."""

    def __init__(self, name: str, topic: str, address: str) -> None:
        self._places = [(topic, number) for number in range(PARTITIONS)]
        self.end = 0
        self.agent = DegradationAgent("writer", name, address, self.report, lambda _: None)

    def report(self) -> OwnReport:
        """Make all that a writer makes for each look: views, positions, lag."""
        views = [PartitionView(place, 0, self.end, paused=False) for place in self._places]
        return own_report(GROUP, views, frozenset(self._places), 0)

    def applies(self, level: Level) -> bool:
        now = self.agent.applied
        return now.authority == "governor" and now.lag_level >= level


async def run(address: str, count: int, topic: str) -> None:
    writers = [Writer(f"writer-{number}", topic, address) for number in range(count)]
    running = [asyncio.create_task(writer.agent.run()) for writer in writers]
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        level, end = map(int, line.split())
        for writer in writers:
            writer.end = end
        while not all(writer.applies(Level(level)) for writer in writers):
            await asyncio.sleep(POLL_S)
        sys.stdout.write("applied\n")
        sys.stdout.flush()
    for task in running:
        task.cancel()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
