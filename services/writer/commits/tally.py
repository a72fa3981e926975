"""What the committer has done so far: for its status, its metrics and its log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from libs.lake.commits.committer import Fenced, Landed
from libs.lake.commits.seam import OffsetRange, TopicPartition, offset_at
from libs.lake.ledger.coverage import Counts
from libs.lake.ledger.ledger import add_counts
from libs.market.clock import Clock
from libs.market.errors import K2Error
from services.writer import metrics
from services.writer.commits.preparing import with_conflicts
from services.writer.messages import Commit

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CommitterView:
    """What the committer has done so far, and why it does nothing now."""

    rows: int = 0
    commits: int = 0
    dead_lettered: int = 0
    duplicates: int = 0
    lost: int = 0
    failures: int = 0
    snapshot_id: int = 0
    commit_time_us: int = 0
    stopped_because: str = ""
    offsets: Mapping[TopicPartition, int] | None = None
    # By series, as the table's ledger has them: of all writers, since the table was made.
    all_duplicates: Counts = field(default_factory=dict)


class Tally:
    """Counts each commit once, also where it is handled again after a failure."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._concluded = ""
        self.view = CommitterView()

    def failed(self, step: str, error: K2Error | OSError) -> None:
        why = f"cannot {step}: {error}"
        if why != self.view.stopped_because:
            log.error("not_committing", step=step, error=str(error))
        self.show(stopped_because=why, failures=self.view.failures + 1)

    def succeeded(self) -> None:
        self.show(stopped_because="", failures=0)

    def conclude(self, message: Commit, outcome: Landed | Fenced) -> None:
        if message.commit_id == self._concluded:
            return
        self._concluded = message.commit_id
        fenced = outcome.offsets if isinstance(outcome, Fenced) else outcome.fenced
        self.show(offsets={**(self.view.offsets or {}), **fenced})
        if isinstance(outcome, Fenced):
            metrics.COMMITS.labels("fenced").inc()
            return
        metrics.COMMITS.labels("landed").inc()
        self._count_landed(outcome)
        self._count_refused(message, outcome)

    def lost(self, outcome: Landed) -> None:
        lost = sum(end - start for start, end in outcome.ranges.values())
        self.show(lost=self.view.lost + lost, snapshot_id=outcome.snapshot_id)
        for partition, covered in outcome.ranges.items():
            alarm_lost(partition, covered)

    def show(self, **changes: object) -> None:
        self.view = replace(self.view, **changes)  # type: ignore[arg-type]
        metrics.COMMIT_FAILURES.set(self.view.failures)

    def _count_landed(self, outcome: Landed) -> None:
        metrics.COMMITTED_ROWS.inc(outcome.rows)
        log.info("commit_landed", snapshot_id=outcome.snapshot_id, rows=outcome.rows)
        reached = {at: offset_at(outcome.seam, at) for at in outcome.ranges}
        self.show(
            rows=self.view.rows + outcome.rows,
            commits=self.view.commits + 1,
            snapshot_id=outcome.snapshot_id,
            commit_time_us=self._clock.now_us(),
            offsets={**(self.view.offsets or {}), **reached},
            all_duplicates=outcome.ledger.duplicates,
        )

    def _count_refused(self, message: Commit, outcome: Landed) -> None:
        """Count what landed: what was fenced is read again, and counted there."""
        landed = outcome.ranges.keys()
        parts = [p for p in with_conflicts(message) if TopicPartition(*p.partition) in landed]
        letters = [rejected for part in parts for rejected in part.rejected]
        for rejected in letters:
            metrics.DEAD_LETTERED.labels(rejected.reason.value).inc()
        written = (message.written[at] for at in landed & message.written.keys())
        duplicates = add_counts({}, (one.duplicates for one in written))
        for series, count in duplicates.items():
            metrics.DUPLICATES.labels(series.exchange, series.symbol).inc(count)
        self.show(
            dead_lettered=self.view.dead_lettered + len(letters),
            duplicates=self.view.duplicates + sum(duplicates.values()),
        )


def alarm_lost(partition: TopicPartition, covered: OffsetRange) -> None:
    metrics.LOST_RECORDS.inc(covered.end - covered.start)
    log.error(
        "records_lost",
        topic=partition.topic,
        partition=partition.partition,
        from_offset=covered.start,
        to_offset=covered.end,
        why="retention took them before they were read",
    )
