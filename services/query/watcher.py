"""Watches the catalog: a cheap look at its pointer, and only manifests not seen before."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import structlog
from prometheus_client import Gauge
from pyiceberg.table import Table

from libs.lake.files.index import SnapshotIndex, empty_index
from libs.lake.table.catalog import Lake
from libs.lake.table.naming import fresh_columns
from libs.lake.table.tables import TRADES, TRADES_SCHEMA
from libs.market.errors import CorruptError, K2Error, NotFoundError
from libs.runtime.actor import Actor
from services.query.keeper import Committed, Keeper
from services.query.tracing import taken_over

log = structlog.get_logger()

PROBLEM = Gauge(
    "k2_query_catalog_problem",
    "1 while the newest snapshot cannot be read and the last good one answers",
)


class CatalogWatcher(Actor):
    """Tells the keeper of each new head; while it cannot be read, the last good one stays."""

    def __init__(self, lake: Lake, keeper: Keeper, *, poll_s: float) -> None:
        self.name = "catalog watcher"
        self.problem = ""
        self._lake = lake
        self._keeper = keeper
        self._poll_s = poll_s
        self._seen: str | None = None
        self._index: SnapshotIndex | None = None
        self._traced_until: int | None = None
        self._stopping = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="catalog")

    async def run(self) -> None:
        while not self._stopping.is_set():
            await self.look()
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def stop(self) -> None:
        self._stopping.set()

    async def look(self) -> None:
        """Look once; nothing happens where the pointer is where it was."""
        loop, began_ns = asyncio.get_running_loop(), time.time_ns()
        try:
            change = await loop.run_in_executor(self._worker, self._change)
        except (K2Error, OSError) as error:
            self._report(str(error))
            return
        self._report("")
        if change is not None:
            await self._keeper.tell(change)
            self._trace(change.table, began_ns)

    def release(self) -> None:
        self._worker.shutdown()

    def _change(self) -> Committed | None:
        try:
            location = self._lake.metadata_location(TRADES)
        except NotFoundError:
            return self._without_table()
        if location == self._seen:
            return None
        table = self._lake.load_table(TRADES)
        self._index = SnapshotIndex.build(table, self._index)
        self._seen = table.metadata_location
        return Committed(self._index, table)

    def _without_table(self) -> Committed | None:
        """Say that nothing is committed yet; a table that was there and is gone is a problem."""
        if self._seen is not None:
            raise CorruptError(f"table {TRADES} is gone from the catalog")
        if self._index is not None:
            return None
        self._index = empty_index(fresh_columns(TRADES_SCHEMA))
        return Committed(self._index, None)

    def _trace(self, table: Table | None, began_ns: int) -> None:
        if table is None:
            return
        numbered = {s.sequence_number or 0: s for s in table.metadata.snapshots}
        before, self._traced_until = self._traced_until, max(numbered, default=0)
        if before is not None:
            taken_over((s for number, s in numbered.items() if number > before), began_ns)

    def _report(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("catalog_problem", error=problem)
        self.problem = problem
        PROBLEM.set(bool(problem))
