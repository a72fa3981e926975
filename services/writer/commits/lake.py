"""The table as the committer sees it: what stands in its head, files, commits. Blocking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, EqualTo, Or
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from libs.kafka.same_log import IDENTITY
from libs.lake.commits.commit import Kind, LakeFile, Overlap, Prepared, head_of
from libs.lake.commits.committer import Committer, Fenced, Landed, Patience, Points
from libs.lake.commits.seam import TopicPartition
from libs.lake.commits.turn import Turn
from libs.lake.files.datafile import write_trades
from libs.lake.files.index import SnapshotIndex
from libs.lake.files.reading import read_rows, whole_rows
from libs.lake.maintenance.upkeep import MaintenanceOptions
from libs.lake.table.catalog import Lake
from libs.lake.table.evolution import added_columns, ensure_columns
from libs.lake.table.tables import TRADES, refuse_other_shape, trades_columns
from libs.market.clock import SystemClock
from libs.market.errors import UnavailableError
from libs.runtime.faultpoint import reach_sync
from libs.wire.promote import stacked
from services.writer.commits.storing import Encode, Sieve, Written
from services.writer.ledger.reader import ledger_at
from services.writer.messages import HeadLedger, StoredRow, TableState

READ_BACK_ROWS = 131_072
# A compaction's attempt takes some 50 ms; where one hangs, rows do not wait for it.
LONGEST_WAIT_FOR_TURN_S = 0.5
# The committer actor goes on by itself, and says meanwhile why nothing is committed.
ONE_CALL = Patience(give_up_after_s=2.0)


def hold_added() -> None:
    reach_sync("writer.after_schema")


def reach_backfill(point: str) -> None:
    reach_sync(point.replace("writer.", "backfill."))


def hold_mid_file() -> None:
    reach_sync("writer.mid_file")


class TradesTable:
    """market.trades in one catalog."""

    def __init__(
        self, lake: Lake, encode: Encode, keeping: MaintenanceOptions | None = None
    ) -> None:
        self._lake = lake
        self._encode = encode
        # The parts of one commit go by the head that the first of them found.
        self._known: Table | None = None
        self._columns: tuple[Table, Schema] | None = None
        self._index: SnapshotIndex | None = None
        self._clock = SystemClock()
        self.turn = Turn()
        self._committer = committer_of(lake, reach_sync, keeping or MaintenanceOptions())
        self._backfill = committer_of(lake, reach_backfill, keeping or MaintenanceOptions())

    def state(self) -> TableState:
        head = head_of(self._lake.load_table(TRADES).metadata)
        return TableState(head.seam, head.cluster_id)

    def rows_at(self, offsets: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, StoredRow]:
        table = self._lake.load_table(TRADES)
        names = {name: name_now(table, name) for name in IDENTITY}
        wanted = reduce(Or, (row_at(names, *item) for item in offsets.items()))
        try:
            scan = table.scan(row_filter=wanted, selected_fields=tuple(names.values()))
            rows = scan.to_arrow().select(list(names.values())).rename_columns(list(names))
        except OSError as error:
            raise UnavailableError(f"a file of the table cannot be read: {error}") from error
        return {
            TopicPartition(row["kafka_topic"], row["kafka_partition"]): row
            for row in rows.to_pylist()
        }

    def write(self, batches: list[pa.RecordBatch], beside: Sequence[LakeFile]) -> Written:
        """Write what is new of a part's rows; `beside` are files of the same commit."""
        rows = stacked(batches)
        added = added_columns(rows.schema)
        if added or not beside or self._known is None:
            self._known = self._table_with(added)
        return self._write(self._known, rows, beside)

    def rewrite(self, file: LakeFile, beside: Sequence[LakeFile]) -> Written:
        """Write a file's rows anew, without those that the table holds by now."""
        table = self._lake.load_table(TRADES)
        location, whole = file.data_file.file_path, whole_rows(table.metadata)
        rows = list(read_rows(table.io, location, whole, batch_rows=READ_BACK_ROWS))
        return self._write(table, in_offset_order(pa.concat_tables(rows)), beside)

    def commit(self, prepared: Prepared) -> Landed | Fenced | Overlap:
        own = self._backfill if prepared.kind is Kind.BACKFILL else self._committer
        with self.turn.taken(wait_s=LONGEST_WAIT_FOR_TURN_S):
            return own.commit(prepared)

    def ledger(self, snapshot_id: int | None) -> HeadLedger:
        return ledger_at(self._lake, snapshot_id)

    def _write(self, table: Table, rows: pa.Table, beside: Sequence[LakeFile]) -> Written:
        ledger = self._committer.ledger_of(table)
        sieve = Sieve(table, ledger, lambda: self._indexed(table), self._encode, beside)
        sifted, began_us = sieve.sift(rows), self._clock.now_us()
        files = write_trades(
            table,
            sifted.kept,
            own=self._columns_of(table),
            claims=sifted.claims,
            on_row_group=hold_mid_file,
        )
        return replace(
            sifted.others, files=tuple(replace(file, written_us=began_us) for file in files)
        )

    def _table_with(self, added: Sequence[pa.Field]) -> Table:
        """Return the table with these columns, read anew only where it has moved."""
        if added:
            return ensure_columns(self._lake, TRADES, added, patience=ONE_CALL, on_added=hold_added)
        return self._lake.load_table_after(TRADES, self._known)

    def _columns_of(self, table: Table) -> Schema:
        """Return K2's columns of a table, looked up once as long as it is the same."""
        if self._columns is None or self._columns[0] is not table:
            self._columns = table, refuse_other_shape(table)
        return self._columns[1]

    def _indexed(self, table: Table) -> SnapshotIndex:
        self._index = SnapshotIndex.build(table, self._index)
        return self._index


def committer_of(lake: Lake, points: Points, keeping: MaintenanceOptions) -> Committer:
    return Committer(
        lake,
        TRADES,
        points=points,
        patience=ONE_CALL,
        retention=keeping.retention,
        longest_s=keeping.orphan_age_s / 2,
    )


def in_offset_order(rows: pa.Table) -> pa.Table:
    return rows.sort_by("kafka_offset")


def name_now(table: Table, name: str) -> str:
    """Return what the table calls a column of K2's: another tool may have renamed it."""
    field_id = trades_columns(table.metadata).schema.find_field(name).field_id
    return table.schema().find_field(field_id).name


def row_at(names: Mapping[str, str], position: TopicPartition, offset: int) -> BooleanExpression:
    return And(
        EqualTo(term=names["kafka_topic"], value=position.topic),
        EqualTo(term=names["kafka_partition"], value=position.partition),
        EqualTo(term=names["kafka_offset"], value=offset),
    )
