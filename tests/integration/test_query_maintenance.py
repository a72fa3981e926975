"""Queries while the table is compacted, expired and cleared of orphans: no row is ever missing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from k2.query.v1 import query_pb2

from libs.lake.maintenance.compaction import CompactionPolicy
from libs.lake.maintenance.retention import Retention
from libs.lake.maintenance.rewriting import Pace
from libs.lake.maintenance.upkeep import Maintenance, MaintenanceOptions
from libs.lake.table.catalog import open_lake
from libs.lake.table.tables import TRADES
from libs.rpc import client
from tests.support.query import History
from tests.support.serving import QueryWorld, list_all, read_all

SYMBOL = "BTCUSDT"
# Longer than the test's queries are but on a machine that stands still, and shorter than the test.
FILE_GRACE_S = 8.0
EAGER = MaintenanceOptions(
    CompactionPolicy(quiet_s=0, merge_at=3),
    Retention(newest=2, hours=0, at_once=1),
    file_grace_s=FILE_GRACE_S,
)


class Upkeep:
    """What a thread of upkeep has done."""

    def __init__(self, history: History) -> None:
        lake = open_lake(history.catalog_uri, history.warehouse)
        self._maintenance = Maintenance(lake, TRADES, EAGER)
        self.ending = threading.Event()
        self.compacted = 0
        self.deleted = 0

    def run(self) -> None:
        while not self.ending.is_set():
            for job in self._maintenance.plan(lambda _: True):
                self.compacted += self._maintenance.compact(job, Pace()).snapshot_id > 0
            self._maintenance.forget()
            self.deleted += sum(swept.files for swept in self._maintenance.sweep())
            for _ in self._maintenance.remove(self._maintenance.orphans().files):
                self.deleted += 1


@contextmanager
def kept_up(history: History) -> Iterator[Upkeep]:
    upkeep = Upkeep(history)
    thread = threading.Thread(target=upkeep.run)
    thread.start()
    try:
        yield upkeep
    finally:
        upkeep.ending.set()
        thread.join()


async def test_no_query_loses_a_file_to_maintenance(query_world: QueryWorld) -> None:
    """Pages and streams read whole while the files under them are replaced and deleted."""
    rows, committed = 1_200, 100
    await query_world.send(SYMBOL, rows)
    await query_world.commit(SYMBOL, committed)
    whole = list(range(rows))
    until_s = time.monotonic() + 1.5 * FILE_GRACE_S
    request = query_pb2.ListTradesRequest(
        filter=query_pb2.TradeFilter(symbol=SYMBOL),
        page_size=150,
        order=query_pb2.ORDER_OLDEST_FIRST,
    )
    stream = query_pb2.ReadTradesRequest(order=query_pb2.ORDER_OLDEST_FIRST)
    async with query_world.serving() as stub:
        with kept_up(query_world.history) as upkeep:
            while time.monotonic() < until_s or not (upkeep.deleted and upkeep.compacted > 2):
                if committed < rows:
                    await query_world.commit(SYMBOL, 25)
                    committed += 25
                trades = await list_all(stub, request)
                assert [trade.source_sequence for trade in trades] == whole
                found = await read_all(stub, stream)
                assert found["source_sequence"].to_pylist() == whole
        status = await client.call(stub.GetStatus, query_pb2.GetStatusRequest())
    assert status.committed_rows + status.tail_rows >= rows
    assert not files_gone(query_world.history)


def files_gone(history: History) -> list[str]:
    return [file.path for file in history.index().files if not Path(file.path).exists()]
