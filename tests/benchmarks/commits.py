"""`make bench-commits`: what a commit costs, and what lies on the disk, over 10,000 commits.

One thread commits and maintains in turn, each commit one small file of two partitions by turns.
Time is made up: ten seconds pass with each commit, so that 10,000 are a little more than a day and
every limit of the maintenance has its default: grace, age, quiet, days that end.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.commit import Prepared
from libs.lake.commits.committer import Committer, Landed
from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.files.datafile import write_trades
from libs.lake.ledger.store import ledger_folder
from libs.lake.maintenance.orphans import candidates, referred_to
from libs.lake.maintenance.retention import Retention
from libs.lake.maintenance.rewriting import Pace
from libs.lake.maintenance.upkeep import Maintenance, MaintenanceOptions
from libs.lake.table.catalog import Lake, open_lake
from libs.lake.table.storage import Storage
from libs.lake.table.tables import TRADES, bucket_of, ensure_trades
from libs.market.clock import Clock
from tests.benchmarks.curve import Line, Panel, draw
from tests.support.query import trade_rows
from tools.cli.doors.home import home

SYMBOLS = ("BTCUSDT", "ETHUSDT")
ROWS = 20
SECONDS_A_COMMIT = 10.0
# A round every three minutes, as time goes here; orphans are looked for every six hours.
COMMITS_A_ROUND = 18
COMMITS_AN_ORPHAN_ROUND = 2_160
ORPHAN_EACH = 250
KEEP_ALL = Retention(newest=10**9)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a stretch of commits cost, and what there is at its end."""

    commits: int
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    maintenance_ms: float
    metadata_bytes: int
    snapshots: int
    manifests: int
    live_files: int
    files_on_disk: int
    notes: int
    orphans: int


class QuickClock(Clock):
    """A clock that only the benchmark turns."""

    def __init__(self) -> None:
        self._now_us = time.time_ns() // 1_000
        self._monotonic_s = 0.0

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._now_us += int(seconds * 1e6)
        self._monotonic_s += seconds


class Bench:
    """One table, its commits and its upkeep."""

    def __init__(self, folder: Path, *, kept: bool) -> None:
        self.clock = QuickClock()
        self.lake: Lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
        ensure_trades(self.lake)
        options = MaintenanceOptions() if kept else MaintenanceOptions(retention=KEEP_ALL)
        self._kept = kept
        self._committer = Committer(
            self.lake, TRADES, clock=self.clock, retention=options.retention
        )
        self._maintenance = Maintenance(self.lake, TRADES, options, clock=self.clock)
        self._commits = 0

    def step(self) -> tuple[float, float, float]:
        """Commit once, maintain where it is due.

        Returns the milliseconds of the commit, those of the processor in it, and of the upkeep.
        """
        table = self.lake.load_table(TRADES)
        symbol = SYMBOLS[self._commits % len(SYMBOLS)]
        start = self._commits // len(SYMBOLS) * ROWS
        offsets = np.arange(start, start + ROWS)
        times_us = self.clock.now_us() + np.arange(ROWS)
        files = write_trades(table, trade_rows(symbol, offsets, times_us=times_us))
        at = TopicPartition(TRADES_BINANCE, bucket_of(symbol))
        covered = {at: OffsetRange(start, start + ROWS)}
        prepared = Prepared(uuid.uuid4().hex, covered, tuple(files))
        cpu_s = time.process_time()
        commit_ms = timed_ms(lambda: self._commit(prepared))
        cpu_ms = (time.process_time() - cpu_s) * 1_000
        self._commits += 1
        self.clock.advance(SECONDS_A_COMMIT)
        return commit_ms, cpu_ms, timed_ms(self._maintain) if self._kept else 0.0

    def sample(self, steps: list[tuple[float, float, float]]) -> Sample:
        commits_ms, cpus_ms, upkeep_ms = np.array(steps).T
        table = self.lake.load_table(TRADES)
        head = table.metadata.current_snapshot()
        assert head is not None
        folder = ledger_folder(self.lake.warehouse, table.metadata)
        storage = Storage(table.io)
        on_disk = {storage.path_of(file.location) for file in candidates(table, folder)}
        used = {storage.path_of(location) for location in referred_to(table, folder)}
        notes, _ = self._maintenance.waiting()
        manifests = head.manifests(table.io)
        return Sample(
            commits=self._commits,
            p50_ms=float(np.median(commits_ms)),
            p95_ms=float(np.percentile(commits_ms, 95)),
            cpu_ms=float(np.median(cpus_ms)),
            maintenance_ms=float(np.mean(upkeep_ms)),
            metadata_bytes=Path(table.metadata_location.removeprefix("file://")).stat().st_size,
            snapshots=len(table.metadata.snapshots),
            manifests=len(manifests),
            live_files=sum(
                (m.added_files_count or 0) + (m.existing_files_count or 0) for m in manifests
            ),
            files_on_disk=len(on_disk),
            notes=notes,
            orphans=len(on_disk - used),
        )

    def _commit(self, prepared: Prepared) -> None:
        outcome = self._committer.commit(prepared)
        assert isinstance(outcome, Landed)

    def _maintain(self) -> None:
        if self._commits % ORPHAN_EACH == 0:
            self._leave_orphan()
        if self._commits % COMMITS_A_ROUND == 0:
            for job in self._maintenance.plan(lambda _: True):
                self._maintenance.compact(job, Pace())
            self._maintenance.forget()
            for _ in self._maintenance.sweep():
                pass
        if self._commits % COMMITS_AN_ORPHAN_ROUND == 0:
            for _ in self._maintenance.remove(self._maintenance.orphans().files):
                pass

    def _leave_orphan(self) -> None:
        """Leave what an attempt leaves that was killed before its commit."""
        (file,) = write_trades(self.lake.load_table(TRADES), trade_rows(SYMBOLS[0], range(ROWS)))
        at_s = self.clock.now_us() / 1e6
        os.utime(file.data_file.file_path.removeprefix("file://"), (at_s, at_s))


def timed_ms(work: Callable[[], None]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1_000


def samples(bench: Bench, commits: int, each: int) -> Iterator[Sample]:
    for _ in range(commits // each):
        yield bench.sample([bench.step() for _ in range(each)])


def measure(
    commits: Annotated[int, typer.Option(min=10)] = 10_000,
    each: Annotated[int, typer.Option(min=5, help="Commits of one line of the table.")] = 500,
    bare: Annotated[int, typer.Option(help="Commits without maintenance, to compare.")] = 500,
    svg: Annotated[Path | None, typer.Option(help="Draw the curve into this file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Write the samples as JSON lines.")] = None,
) -> None:
    """Commit many times with maintenance on, and print what each stretch cost."""
    console = Console(highlight=False)
    kept = run(commits, each, kept=True, console=console)
    unkept = run(bare, max(5, each // 5), kept=False, console=console) if bare else []
    console.print(table_of(kept, "with maintenance"))
    if unkept:
        console.print(table_of(unkept, "without"))
    if data is not None:
        lines = [asdict(sample) | {"kept": True} for sample in kept]
        lines += [asdict(sample) | {"kept": False} for sample in unkept]
        data.write_bytes(msgspec.json.Encoder().encode_lines(lines))
    if svg is not None:
        svg.write_text(draw(panels(kept, unkept)))


def run(commits: int, each: int, *, kept: bool, console: Console) -> list[Sample]:
    folder = home() / "bench" / f"commits-{os.getpid()}"
    try:
        found = []
        with console.status("commits") as status:
            for sample in samples(Bench(folder, kept=kept), commits, each):
                found.append(sample)
                status.update(f"{sample.commits:,} commits, p50 {sample.p50_ms:.1f} ms")
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table_of(found: list[Sample], title: str) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for name in asdict(found[0]):
        table.add_column(name.replace("_", " "), justify="right")
    for sample in found:
        table.add_row(
            *(
                f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
                for value in asdict(sample).values()
            )
        )
    return table


def panels(kept: list[Sample], unkept: list[Sample]) -> list[Panel]:
    def line(name: str, colour: str, of: Callable[[Sample], float], held: list[Sample]) -> Line:
        return Line(name, colour, [(sample.commits, of(sample)) for sample in held])

    return [
        Panel(
            "ms of a commit",
            [
                line("processor time, median", "#1f6fb2", lambda s: s.cpu_ms, kept),
                line("without maintenance", "#c0392b", lambda s: s.cpu_ms, unkept),
            ],
        ),
        Panel(
            "in the head",
            [
                line("live data files", "#1f6fb2", lambda s: s.live_files, kept),
                line("manifests", "#2e8b57", lambda s: s.manifests, kept),
                line("snapshots", "#b8860b", lambda s: s.snapshots, kept),
            ],
        ),
        Panel(
            "on the disk",
            [
                line(
                    "files, those of the grace with them",
                    "#1f6fb2",
                    lambda s: s.files_on_disk,
                    kept,
                ),
                line("orphans", "#c0392b", lambda s: s.orphans, kept),
            ],
        ),
    ]


if __name__ == "__main__":
    typer.run(measure)
