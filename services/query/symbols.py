"""Which symbols there are: from the files' footers and the tail, no rows read.

Row groups do not straddle symbols, so their statistics count each symbol's rows exactly. A footer
is read once in the life of the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from libs.lake.files.index import FileEntry
from libs.lake.table.naming import OwnColumns
from services.query.asked import Selection
from services.query.reading import sql
from services.query.reading.engine import Reader
from services.query.state import State
from services.query.tail.rows import rows_of
from services.query.tail.tail import Tail

NAMES = ("exchange", "asset_class", "symbol")


class SymbolName(NamedTuple):
    exchange: str
    asset_class: str
    symbol: str


@dataclass(frozen=True, slots=True)
class Activity:
    """How often a symbol traded, and first and last when."""

    trades: int
    first_us: int
    last_us: int

    def with_more(self, more: Activity) -> Activity:
        return Activity(
            self.trades + more.trades,
            min(self.first_us, more.first_us),
            max(self.last_us, more.last_us),
        )


Activities = dict[SymbolName, Activity]


class FileSymbols:
    """Remembers each data file's symbols. Files never change; those gone are forgotten."""

    def __init__(self) -> None:
        self._by_path: dict[str, Activities] = {}

    def of(self, state: State, reader: Reader) -> Activities:
        """Return every symbol of a state, sorted by name. Reads footers not seen before."""
        known = self._by_path
        self._by_path = {
            file.path: known.get(file.path) or file_symbols(file, state.index.columns, reader)
            for file in state.index.files
        }
        return summed([*self._by_path.values(), tail_symbols(state.tail)])


def summed(parts: Iterable[Activities]) -> Activities:
    total: Activities = {}
    for part in parts:
        for name, activity in part.items():
            total[name] = total[name].with_more(activity) if name in total else activity
    return dict(sorted(total.items()))


def file_symbols(file: FileEntry, own: OwnColumns, reader: Reader) -> Activities:
    footer = pq.read_metadata(file.path)
    groups = [group_symbol(footer.row_group(at)) for at in range(footer.num_row_groups)]
    if any(group is None for group in groups):
        source = sql.files_source([file], (*NAMES, "timestamp"), own)
        return counted(reader.read(count_sql(source)))
    return summed({name: activity} for name, activity in filter(None, groups))


def group_symbol(group: pq.RowGroupMetaData) -> tuple[SymbolName, Activity] | None:
    """Return the symbol of a row group; None where its statistics do not tell."""
    statistics = {
        column.path_in_schema: column.statistics
        for column in map(group.column, range(group.num_columns))
        if column.path_in_schema in (*NAMES, "timestamp")
    }
    # Another tool's file may call them otherwise, or count nothing.
    if len(statistics) < len(NAMES) + 1:
        return None
    if any(found is None or not found.has_min_max for found in statistics.values()):
        return None
    if any(statistics[name].min != statistics[name].max for name in NAMES):
        return None
    times = statistics["timestamp"]
    activity = Activity(group.num_rows, int(times.min_raw), int(times.max_raw))
    return SymbolName(*(statistics[name].min for name in NAMES)), activity


def tail_symbols(tail: Tail) -> Activities:
    batches = rows_of(tail, Selection(), (*NAMES, "timestamp"))
    if not batches:
        return {}
    rows = pa.Table.from_batches(batches)
    grouped = rows.group_by(list(NAMES)).aggregate(
        [("timestamp", "count"), ("timestamp", "min"), ("timestamp", "max")]
    )
    bounds = [grouped[name].cast(pa.int64()) for name in ("timestamp_min", "timestamp_max")]
    return activities([*(grouped[name] for name in NAMES), grouped["timestamp_count"], *bounds])


def count_sql(source: str) -> str:
    names = ", ".join(NAMES)
    return (
        f"SELECT {names}, count(*) AS trades, epoch_us(min(timestamp)) AS first_us,"  # noqa: S608
        f" epoch_us(max(timestamp)) AS last_us FROM {source} GROUP BY {names}"
    )


def counted(rows: pa.Table) -> Activities:
    return activities(rows.columns)


def activities(columns: Iterable[pa.ChunkedArray]) -> Activities:
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return {SymbolName(*row[:3]): Activity(*row[3:]) for row in rows}
