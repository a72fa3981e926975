"""Whether live traffic leaves room for backfill."""

from __future__ import annotations

from libs.degradation.agent import DegradationAgent
from libs.lake.commits.seam import TopicPartition
from services.writer.backfill.plan import Times
from services.writer.batching.batcher import Batcher
from services.writer.intake.consumer import Consumer
from services.writer.reporting import lag_of

# Below this lag is what is on its way.
LAG_AT_EASE = 10_000


class LiveTraffic:
    """Looks at the other actors. It is busy with a commit, a full buffer, or lag that grows."""

    def __init__(self, consumer: Consumer, batcher: Batcher, agent: DegradationAgent) -> None:
        self._consumer = consumer
        self._batcher = batcher
        self._agent = agent
        self._lag = 0

    def times(self) -> Times:
        views = self._consumer.view()
        before = self._lag
        self._lag = lag_of(views) or 0
        growing = self._lag > LAG_AT_EASE and self._lag >= before
        return Times(
            level=self._agent.demanded.level,
            busy=growing or self._batcher.busy,
            assigned=frozenset(TopicPartition(*view.partition) for view in views),
            placed=frozenset(TopicPartition(*p) for p in self._consumer.placed),
        )
