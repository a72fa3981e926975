"""What is owed of the log, and how near the log is to forget it: kept up to date, readable at once.

What is read here may be a moment old; time goes on by itself. A backfill that hangs, or a Kafka
that does not answer, hides no retention that runs out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import structlog

from libs.kafka.admin import Retention
from libs.kafka.unreadable import UnreadableBatchError
from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.ledger import Ledger
from libs.market.clock import Clock
from services.writer.backfill import plan
from services.writer.backfill.plan import Debt, LogSight, Times
from services.writer.backfill.reader import BackfillReader
from services.writer.messages import HeadLedger

log = structlog.get_logger()

RETENTION_EVERY_S = 60.0
# So many ranges are dated at a look that nobody has dated yet.
PEEKS_A_LOOK = 4
GOOD_FOR_S = 0.5

# Where an open range begins.
Start = tuple[TopicPartition, int]


class Ledgers(Protocol):
    """Where the head's ledger is read."""

    async def ledger(self) -> HeadLedger:
        """Raises UnavailableError, MissingLedgerError."""
        ...


class OpenRanges:
    """The head's open ranges as last seen, judged by the time it is now."""

    def __init__(
        self, ledgers: Ledgers, reader: BackfillReader, clock: Clock, *, again_s: float
    ) -> None:
        self._ledgers = ledgers
        self._reader = reader
        self._clock = clock
        self._again_s = again_s
        self._ledger = Ledger()
        self._retentions: Mapping[str, Retention] = {}
        self._retention_at_s = float("-inf")
        self._judged: tuple[float, tuple[Debt, ...]] = (float("-inf"), ())
        self._aside: dict[Start, tuple[float, str]] = {}
        self.sights: Mapping[TopicPartition, LogSight] = {}

    @property
    def debts(self) -> tuple[Debt, ...]:
        """Every open range of the table, the oldest first."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._judged[0] + GOOD_FOR_S:
            now_us = self._clock.now_us()
            debts = plan.debts_of(self._ledger, self.sights, self._retentions, now_us)
            self._judged = (now_s, debts)
        return self._judged[1]

    @property
    def spared(self) -> frozenset[str]:
        """The topics that are not put off any more."""
        return plan.spared(self.debts)

    @property
    def readable(self) -> tuple[Debt, ...]:
        """Those that do not begin with what could not be read a short time ago."""
        resting = self._resting
        return tuple(debt for debt in self.debts if (debt.position, debt.shed.start) not in resting)

    @property
    def _resting(self) -> set[Start]:
        now_s = self._clock.monotonic_s()
        return {start for start, (again_s, _) in self._aside.items() if now_s < again_s}

    @property
    def unreadable_because(self) -> str:
        """Say what of the log cannot be read; empty where all can, or was not tried."""
        return "; ".join(why for _, why in self._aside.values())

    def set_aside(self, start: Start, error: UnreadableBatchError) -> None:
        """Work on other ranges until it is time to try this one again."""
        if start not in self._aside:
            log.error("backfill_unreadable", why=error.message)
        self._aside[start] = (self._clock.monotonic_s() + self._again_s, error.message)

    def note(self, position: TopicPartition, sight: LogSight) -> None:
        """Take in what was seen of a log while it was read."""
        self.sights = {**self.sights, position: sight}

    async def look(self, times: Times) -> None:
        """Read the head's ledger, and how the log stands where something is owed.

        Raises:
            K2Error, KafkaError, OSError: the catalog, the store or Kafka does not answer.
        """
        self._ledger = (await self._ledgers.ledger()).ledger
        starts = {at: [s.start for s in book.shed] for at, book in self._ledger.partitions.items()}
        owed = {at: some for at, some in starts.items() if some}
        self._aside = {at: why for at, why in self._aside.items() if at[1] in owed.get(at[0], ())}
        if owed:
            await self._read_retentions({at.topic for at in owed})
            self.sights = await self._reader.look(owed, plan.without_past(self.sights, owed))
            await self._date(owed, times)
        else:
            self.sights = {}
            await self._reader.close()
        self._judged = (float("-inf"), ())

    async def _date(self, owed: Mapping[TopicPartition, list[int]], times: Times) -> None:
        """See when the log took the beginnings of our ranges."""
        resting = self._resting
        undated = [
            (at, start)
            for at, some in owed.items()
            for start in some
            if at in times.placed
            and (at, start) not in resting
            and start >= self.sights[at].start
            and start not in self.sights[at].appended_ms
        ]
        for at, start in undated[:PEEKS_A_LOOK]:
            try:
                self.note(at, await self._reader.peek(at, start, self.sights[at]))
            except UnreadableBatchError as error:
                self.set_aside((at, start), error)
            else:
                self._aside.pop((at, start), None)

    async def _read_retentions(self, topics: set[str]) -> None:
        now_s = self._clock.monotonic_s()
        if topics <= self._retentions.keys() and now_s < self._retention_at_s + RETENTION_EVERY_S:
            return
        self._retentions = await self._reader.retention(topics)
        self._retention_at_s = now_s
