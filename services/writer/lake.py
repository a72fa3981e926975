"""The table as the committer sees it: what stands in its head, files, commits. Blocking."""

from __future__ import annotations

import pyarrow as pa

from libs.lake.catalog import Lake
from libs.lake.commit import LakeFile, Prepared, head_of
from libs.lake.committer import Committer, Fenced, Landed, Patience
from libs.lake.datafile import write_trades
from libs.lake.tables import TRADES
from libs.runtime.faultpoint import reach_sync
from services.writer.messages import TableState

# The committer actor goes on by itself, and says meanwhile why nothing is committed.
ONE_CALL = Patience(give_up_after_s=2.0)


def hold_mid_file() -> None:
    reach_sync("writer.mid_file")


class TradesTable:
    """market.trades in one catalog."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._committer = Committer(lake, TRADES, points=reach_sync, patience=ONE_CALL)

    def state(self) -> TableState:
        head = head_of(self._lake.load_table(TRADES).metadata)
        return TableState(head.seam, head.cluster_id)

    def write(self, batches: list[pa.RecordBatch]) -> list[LakeFile]:
        table = self._lake.load_table(TRADES)
        return write_trades(table, pa.Table.from_batches(batches), on_row_group=hold_mid_file)

    def commit(self, prepared: Prepared) -> Landed | Fenced:
        return self._committer.commit(prepared)
