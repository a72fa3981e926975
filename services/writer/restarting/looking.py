"""What the restarter sees of the writer's other parts."""

from __future__ import annotations

from dataclasses import dataclass

from libs.degradation.agent import DegradationAgent
from libs.degradation.level import Level
from services.writer.batching.batcher import Batcher
from services.writer.commits.committer import TableCommitter
from services.writer.intake.consumer import Consumer
from services.writer.intake.pauses import MemoryRestraint
from services.writer.restarting.need import Sight


@dataclass(frozen=True, slots=True)
class Parts:
    """Those that hold memory, and the agent that measures it."""

    agent: DegradationAgent
    restraint: MemoryRestraint
    consumer: Consumer
    batcher: Batcher
    committer: TableCommitter

    def sight(self) -> Sight:
        starved = self.agent.own_memory_level >= Level.AGGRESSIVE and not self.agent.recovering
        return Sight(starved, self._drained)

    @property
    def _drained(self) -> bool:
        """Whether no buffer can be what memory is short of.

        Where it reads on because no pause helped, its batches are the smallest, and none is stuck.
        """
        if self.restraint.bears:
            return not self.committer.view.failures
        drained = self.consumer.handed_over and self.batcher.drained and self.committer.idle
        return self.restraint.reads_nothing and drained
