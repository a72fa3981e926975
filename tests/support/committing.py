"""A lake on real files, rows committed to it, and what others read there."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
from pyiceberg.table import Table

from libs.lake.commits.commit import LakeFile, Prepared
from libs.lake.commits.committer import Committer, Landed
from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.files.datafile import write_trades
from libs.lake.table.catalog import Lake, open_lake
from libs.lake.table.tables import TRADES, ensure_trades
from libs.wire.schema import TRADE_SCHEMA


def open_here(folder: Path, *, timeout_s: float = 10) -> Lake:
    return open_lake(
        f"sqlite:///{folder}/data/catalog.db", folder / "warehouse", timeout_s=timeout_s
    )


def commit_rows(lake: Lake, rows: pa.Table) -> Landed:
    """Write and commit rows whose offsets follow on the table's."""
    table = ensure_trades(lake)
    files = write_trades(table, rows)
    landed = Committer(lake, TRADES).commit(covering(files))
    assert isinstance(landed, Landed)
    return landed


def covering(files: list[LakeFile]) -> Prepared:
    ranges: dict[TopicPartition, OffsetRange] = {}
    for file in files:
        before = ranges.get(file.position, OffsetRange(file.first_offset, 0))
        ranges[file.position] = OffsetRange(
            min(before.start, file.first_offset), max(before.end, file.last_offset + 1)
        )
    return Prepared(f"commit-{time.monotonic_ns()}", ranges, tuple(files), cluster_id="kafka-1")


def ordered(rows: pa.Table) -> list[dict[str, object]]:
    by_offset = rows.sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")])
    in_order: list[dict[str, object]] = by_offset.select(TRADE_SCHEMA.names).to_pylist()
    return in_order


def scan(table: Table) -> pa.Table:
    """Read the table by PyIceberg alone."""
    found: pa.Table = table.scan().to_arrow()
    return found.select(TRADE_SCHEMA.names).cast(TRADE_SCHEMA)
