"""Trades by their ids, and writers that store them in a table without Kafka."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from libs.lake.commits.commit import Overlap, Prepared
from libs.lake.commits.committer import Fenced, Landed
from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.files.index import SnapshotIndex
from libs.lake.ledger.ledger import Account
from libs.lake.table.catalog import Lake, open_lake
from libs.lake.table.tables import TRADES, bucket_of, ensure_trades
from libs.wire.schema import with_codes
from services.writer.commits.lake import TradesTable
from services.writer.commits.preparing import dead_ranges
from services.writer.commits.storing import Written
from tests.support.trades import FIRST_DAY_US, decimals, trade_rows

SYMBOL = "BTCUSDT"
commit_ids = itertools.count()


def trades(
    ids: Sequence[int | None],
    *,
    symbol: str = SYMBOL,
    first_offset: int = 0,
    cents: Sequence[int] | None = None,
    partition: int | None = None,
    received_us: int = 0,
) -> pa.Table:
    """Return a row for each id; everything of it but its offset and receipt follows from the id."""
    count = len(ids)
    where = bucket_of(symbol) if partition is None else partition
    known = [0 if one is None else one for one in ids]
    columns = {
        "source_sequence": pa.array(ids, pa.int64()),
        "timestamp": pa.array([FIRST_DAY_US + one * 1_000_000 for one in known]),
        "ingest_timestamp": pa.array([FIRST_DAY_US + received_us + at for at in range(count)]),
        "price": decimals(pa.array(cents or [100 + one for one in known]).to_numpy(), 2),
        "quantity": decimals(pa.array([1 + one % 7 for one in known]).to_numpy(), 3),
        "side": pa.array(["BUY", "SELL"]).take(pa.array([one % 2 for one in known])),
        "kafka_offset": pa.array(range(first_offset, first_offset + count)),
        "kafka_partition": pa.array([where] * count),
    }
    return trade_rows(count, symbols=[symbol], columns=columns)


def raw_values(rows: pa.Table) -> list[bytes]:
    """Stand in for the encoder: a value names its row."""
    return [f"raw {offset}".encode() for offset in rows["kafka_offset"].to_pylist()]


class Storer:
    """A writer's table and what the committer actor would do with it, one partition at a time."""

    def __init__(self, folder: Path) -> None:
        self.lake: Lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
        ensure_trades(self.lake)
        self.table = TradesTable(self.lake, raw_values)

    def written(self, rows: pa.Table) -> Written:
        """Write rows in the form in which the writer's decoder gives them."""
        return self.table.write(rows.cast(with_codes(rows.schema)).to_batches(), ())

    def commit(self, rows: pa.Table, written: Written) -> Landed | Fenced:
        """Commit what was written of rows, rewriting what the table holds by then."""
        commit_id = f"commit-{next(commit_ids)}"
        at = position_of(rows)
        while True:
            outcome = self.table.commit(prepared(commit_id, rows, written))
            if not isinstance(outcome, Overlap):
                return outcome
            for file in outcome.files:
                beside = [other for other in written.files if other is not file]
                written = written.with_file_replaced(file, self.table.rewrite(file, beside))
                assert all(one.position == at for one in written.files)

    def store(self, rows: pa.Table) -> tuple[Landed | Fenced, Written]:
        written = self.written(rows)
        return self.commit(rows, written), written

    def index(self) -> SnapshotIndex:
        return SnapshotIndex.build(self.lake.load_table(TRADES))

    def rows(self) -> pa.Table:
        return self.lake.load_table(TRADES).scan().to_arrow()

    def ids(self) -> list[int | None]:
        """Return every stored id, sorted, repeats kept."""
        found: list[int | None] = self.rows()["source_sequence"].to_pylist()
        return sorted(found, key=lambda one: (one is None, one))


def position_of(rows: pa.Table) -> TopicPartition:
    return TopicPartition(rows["kafka_topic"][0].as_py(), rows["kafka_partition"][0].as_py())


def prepared(commit_id: str, rows: pa.Table, written: Written) -> Prepared:
    offsets = rows["kafka_offset"].to_pylist()
    at = position_of(rows)
    account = Account(dead=dead_ranges(written.conflicts, 1), duplicates=written.duplicates)
    return Prepared(
        commit_id,
        {at: OffsetRange(min(offsets), max(offsets) + 1)},
        written.files,
        accounts={at: account},
    )
