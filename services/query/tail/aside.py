"""Partitions whose next record batch is none: the tail reads the others, and tries these again."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from aiokafka import TopicPartition
from prometheus_client import Gauge

from libs.kafka.unreadable import UnreadableBatchError
from services.query.completeness.missing import Partition

log = structlog.get_logger()

UNREADABLE = Gauge(
    "k2_query_unreadable_partitions", "ALARM: partitions whose next record batch cannot be read"
)
AGAIN_S = 30.0


class SetAside:
    """Which they are, and when each is tried next. Time is passed in."""

    def __init__(self) -> None:
        self._errors: dict[TopicPartition, UnreadableBatchError] = {}
        self._again_s: dict[TopicPartition, float] = {}

    @property
    def partitions(self) -> frozenset[Partition]:
        return frozenset((tp.topic, tp.partition) for tp in self._errors)

    @property
    def problem(self) -> str:
        """Name each; empty where there is none."""
        return "; ".join(error.message for error in self._errors.values())

    def put(self, error: UnreadableBatchError, now_s: float) -> None:
        """Set a partition aside, or leave it there after another try."""
        if error.position not in self._errors:
            log.error("tail_unreadable", why=error.message)
        self._errors[error.position] = error
        self._again_s[error.position] = now_s + AGAIN_S
        UNREADABLE.set(len(self._errors))

    def due(self, now_s: float) -> list[TopicPartition]:
        """Return those to be tried now, once each time."""
        due = [partition for partition, again_s in self._again_s.items() if now_s >= again_s]
        self._again_s |= dict.fromkeys(due, now_s + AGAIN_S)
        return due

    def read_on(self, partitions: Iterable[TopicPartition]) -> bool:
        """Take back those of which something was read; say whether there are any."""
        readable = set(partitions) & self._errors.keys()
        for tp in readable:
            log.info("tail_readable_again", topic=tp.topic, partition=tp.partition)
            del self._errors[tp], self._again_s[tp]
        UNREADABLE.set(len(self._errors))
        return bool(readable)

    def clear(self) -> None:
        """Forget all: every partition is read anew."""
        self._errors.clear()
        self._again_s.clear()
        UNREADABLE.set(0)
