"""A table to keep, a clock to turn, and everything that lies in its folders."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from pyiceberg.table import Table

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.commit import Prepared
from libs.lake.commits.committer import Committer, Landed
from libs.lake.commits.seam import OffsetRange, TopicPartition, offset_at, seam_of
from libs.lake.files.datafile import write_trades
from libs.lake.maintenance.compaction import CompactionPolicy, Job, Partition
from libs.lake.maintenance.content import Content, content_of
from libs.lake.maintenance.expiry import reached_by_kept
from libs.lake.maintenance.reach import Reach
from libs.lake.maintenance.retention import Retention
from libs.lake.maintenance.rewrite import Rewrite
from libs.lake.maintenance.rewriting import Pace, rewrite_files
from libs.lake.maintenance.upkeep import Compacted, Maintenance, MaintenanceOptions
from libs.lake.table.tables import TRADES, bucket_of
from tests.support.clock import ManualClock
from tests.support.query import History, history_in, trade_rows

SYMBOL = "BTCUSDT"
BUCKET = bucket_of(SYMBOL)
AT = TopicPartition(TRADES_BINANCE, BUCKET)
SMALL_FILES = CompactionPolicy(target_bytes=1 << 16, merge_at=4, quiet_s=0)
SOON = MaintenanceOptions(
    compaction=SMALL_FILES,
    retention=Retention(newest=3, hours=0, at_once=1),
    file_grace_s=60.0,
    orphan_age_s=3_600.0,
)


@dataclass
class Kept:
    """A table of one symbol's trades, and its maintenance by a clock of the test's."""

    history: History
    clock: ManualClock
    options: MaintenanceOptions = SOON
    points: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.maintenance = Maintenance(
            self.history.lake, TRADES, self.options, clock=self.clock, points=self.points.append
        )
        self.committer = Committer(
            self.history.lake, TRADES, clock=self.clock, retention=self.options.retention
        )

    @property
    def table(self) -> Table:
        return self.history.reload()

    @property
    def next_offset(self) -> int:
        return offset_at(seam_of(self.table.metadata), AT)

    @property
    def content(self) -> Content:
        return content_of(self.rows())

    def rows(self) -> pa.Table:
        """Read every row by PyIceberg alone."""
        return self.table.scan().to_arrow()

    def append(self, rows: int = 40, *, commits: int = 1) -> None:
        for _ in range(commits):
            start = self.next_offset
            files = write_trades(self.table, trade_rows(SYMBOL, range(start, start + rows)))
            covered = {AT: OffsetRange(start, start + rows)}
            landed = self.committer.commit(Prepared(uuid.uuid4().hex, covered, tuple(files)))
            assert isinstance(landed, Landed)

    def jobs(self, *, asked: bool = True) -> list[Job]:
        return self.maintenance.plan(everything, asked=asked)

    def compact(self) -> list[Compacted]:
        return [self.maintenance.compact(job, Pace()) for job in self.jobs()]

    def sweep(self) -> int:
        return sum(swept.files for swept in self.maintenance.sweep())

    def files(self) -> set[Path]:
        """Return every file in the warehouse, the ledgers with them."""
        warehouse = Path(self.history.warehouse)
        return {path for path in warehouse.rglob("*") if path.is_file()}

    def in_use(self) -> set[Path]:
        """Return every file that kept snapshots, the log and the head refer to."""
        table = self.table
        reached = reached_by_kept(table, Reach(table.io))
        named = {*reached.deepest_first(), table.metadata_location}
        named |= {entry.metadata_file for entry in table.metadata.metadata_log}
        return {Path(location.removeprefix("file://")) for location in named}

    def age(self, paths: Sequence[Path], by_s: float) -> None:
        """Make files look as old as that by the test's clock."""
        at_s = self.clock.now_us() / 1e6 - by_s
        for path in paths:
            os.utime(path, (at_s, at_s))


def everything(_: Partition) -> bool:
    return True


def kept_in(folder: Path, options: MaintenanceOptions = SOON) -> Kept:
    return Kept(history_in(folder), ManualClock(time.time_ns() // 1_000), options)


def rewritten(kept: Kept, job: Job) -> Rewrite:
    target = kept.options.compaction.target_bytes
    return rewrite_files(
        kept.table, job, target_bytes=target, pace=Pace(), now_us=kept.clock.now_us
    )
