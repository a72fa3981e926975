"""The table as the committer sees it: what stands in its head, files, commits. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, EqualTo, Or

from libs.kafka.same_log import IDENTITY
from libs.lake.catalog import Lake
from libs.lake.commit import LakeFile, Prepared, head_of
from libs.lake.committer import Committer, Fenced, Landed, Patience
from libs.lake.datafile import write_trades
from libs.lake.seam import TopicPartition
from libs.lake.tables import TRADES
from libs.market.errors import UnavailableError
from libs.runtime.faultpoint import reach_sync
from services.writer.messages import StoredRow, TableState

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

    def rows_at(self, offsets: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, StoredRow]:
        table = self._lake.load_table(TRADES)
        wanted = reduce(Or, (row_at(*item) for item in offsets.items()))
        try:
            rows = table.scan(row_filter=wanted, selected_fields=IDENTITY).to_arrow().to_pylist()
        except OSError as error:
            raise UnavailableError(f"a file of the table cannot be read: {error}") from error
        return {TopicPartition(row["kafka_topic"], row["kafka_partition"]): row for row in rows}

    def write(self, batches: list[pa.RecordBatch]) -> list[LakeFile]:
        table = self._lake.load_table(TRADES)
        return write_trades(table, pa.Table.from_batches(batches), on_row_group=hold_mid_file)

    def commit(self, prepared: Prepared) -> Landed | Fenced:
        return self._committer.commit(prepared)


def row_at(position: TopicPartition, offset: int) -> BooleanExpression:
    return And(
        EqualTo(term="kafka_topic", value=position.topic),
        EqualTo(term="kafka_partition", value=position.partition),
        EqualTo(term="kafka_offset", value=offset),
    )
