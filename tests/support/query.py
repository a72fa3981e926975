"""Rows, files and states for tests of the query service."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.commit import Prepared
from libs.lake.commits.committer import Committer, Landed
from libs.lake.commits.prepared import Kind
from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.files.datafile import write_trades
from libs.lake.files.index import SnapshotIndex
from libs.lake.ledger.ledger import Account, Shed
from libs.lake.table.catalog import Lake, open_lake
from libs.lake.table.tables import TRADES, bucket_of, ensure_trades
from libs.market.clock import Clock, SystemClock
from libs.wire.notional import notional
from libs.wire.schema import NOTIONAL, TRADE_SCHEMA
from services.query.completeness.missing import Span
from services.query.reading.engine import Engine
from services.query.state import State
from services.query.tail.chunk import chunk_of
from services.query.tail.tail import EMPTY_TAIL, Tail, appended

FIRST_US = 1_723_107_600_000_000
Int64s = npt.NDArray[np.int64]


def trade_rows(
    symbol: str,
    offsets: Sequence[int] | Int64s,
    *,
    times_us: Sequence[int] | Int64s | None = None,
    partition: int | None = None,
    topic: str = TRADES_BINANCE,
    enriched: bool = True,
    ingest_us: Sequence[int] | Int64s | None = None,
) -> pa.RecordBatch:
    """Make a symbol's rows; without times they are a second apart by offset."""
    at = np.asarray(offsets, np.int64)
    times = FIRST_US + at * 1_000_000 if times_us is None else np.asarray(times_us, np.int64)
    received = times + 2_000 if ingest_us is None else np.asarray(ingest_us, np.int64)
    rows = len(at)
    prices = decimals((6_000_000 + at % 1_000) * 10**10, TRADE_SCHEMA.field("price").type)
    quantities = decimals((1 + at % 97) * 10**7, TRADE_SCHEMA.field("quantity").type)
    known = notional(prices, quantities) if enriched else pa.nulls(rows, NOTIONAL)
    partitions = np.full(rows, bucket_of(symbol) if partition is None else partition, np.int32)
    keys, items = pa.array(["E"] * rows), pa.array(["1723107600001"] * rows)
    columns = {
        "exchange": repeated("BINANCE", rows),
        "asset_class": repeated("CRYPTO", rows),
        "symbol": repeated(symbol, rows),
        "trade_id": pa.array(at).cast(pa.string()),
        "source_sequence": pa.array(at),
        "sequence_epoch": pa.array(np.zeros(rows, np.int32)),
        "timestamp": pa.array(times).cast(TRADE_SCHEMA.field("timestamp").type),
        "ingest_timestamp": pa.array(received).cast(TRADE_SCHEMA.field("timestamp").type),
        "price": prices,
        "quantity": quantities,
        "currency": repeated("USDT", rows),
        "side": pa.array(np.where(at % 2, "BUY", "SELL")),
        "trade_conditions": pa.array([[]] * rows, TRADE_SCHEMA.field("trade_conditions").type),
        "origin": repeated("STREAM", rows),
        "vendor_data": pa.MapArray.from_arrays(np.arange(rows + 1, dtype=np.int32), keys, items),
        "notional": known,
        "kafka_topic": repeated(topic, rows),
        "kafka_partition": pa.array(partitions),
        "kafka_offset": pa.array(at),
    }
    arrays = [columns[field.name].cast(field.type) for field in TRADE_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=TRADE_SCHEMA)


def renumbered(rows: pa.RecordBatch, ids: Sequence[int | None]) -> pa.RecordBatch:
    """Give rows other ids than their offsets, at the same places of the log."""
    numbers = pa.array(ids, pa.int64())
    at = rows.schema.get_field_index("source_sequence")
    return rows.set_column(at, rows.schema.field(at), numbers)


def decimals(unscaled: Int64s, kind: pa.DataType) -> pa.Array:
    words = np.stack([unscaled, unscaled >> 63], axis=1)
    return pa.Array.from_buffers(kind, len(unscaled), [None, pa.py_buffer(words.tobytes())])


def repeated(text: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), rows)


def tail_of(*batches: pa.RecordBatch, spans: Mapping[int, Span] | None = None) -> Tail:
    """Read batches into a tail; by default each spans its own offsets."""
    tail = EMPTY_TAIL
    for batch in batches:
        chunk = chunk_of(batch["kafka_topic"][0].as_py(), batch)
        tail = appended(tail, chunk.topic, chunk, spans or chunk.bounds, {})
    return tail


@dataclass(frozen=True, slots=True)
class History:
    """A real catalog and warehouse in a folder, written through libs.lake."""

    lake: Lake
    table: Table
    folder: Path
    clock: Clock = field(default_factory=SystemClock)

    @property
    def catalog_uri(self) -> str:
        return f"sqlite:///{self.folder}/catalog.db"

    @property
    def warehouse(self) -> str:
        return str(self.folder / "warehouse")

    def commit(
        self,
        rows: pa.Table | pa.RecordBatch,
        spans: Mapping[int, Span],
        *,
        shed: Sequence[str] = (),
        kind: Kind = Kind.APPEND,
        topic: str = "",
    ) -> Landed:
        """Commit rows that cover these offsets of the trades topic; rows of `shed` are not in it.

        Their ranges are open then, one for each span.
        """
        if not topic:
            topic = rows["kafka_topic"][0].as_py() if rows.num_rows else TRADES_BINANCE
        ranges = {TopicPartition(topic, p): OffsetRange(*span) for p, span in spans.items()}
        accounts = {
            position: Account(shed=(Shed(*covered, ("LOW",), "test", tuple(sorted(shed)), 1, 1),))
            for position, covered in ranges.items()
            if shed
        }
        kept = without_symbols(rows, shed)
        files = tuple(write_trades(self.reload(), kept)) if kept.num_rows else ()
        prepared = Prepared(uuid.uuid4().hex, ranges, files, kind, accounts=accounts)
        outcome = Committer(self.lake, TRADES, clock=self.clock).commit(prepared)
        assert isinstance(outcome, Landed), outcome
        return outcome

    def reload(self) -> Table:
        return self.lake.load_table(TRADES)

    def index(self, snapshot_id: int | None = None) -> SnapshotIndex:
        return SnapshotIndex.build(self.reload(), snapshot_id=snapshot_id)

    def state(self, tail: Tail = EMPTY_TAIL) -> State:
        return State.of(self.index(), tail, {}, self.reload())


def without_symbols(rows: pa.Table | pa.RecordBatch, symbols: Sequence[str]) -> pa.Table:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    return table.filter(pc.invert(pc.is_in(table["symbol"], pa.array(symbols, pa.string()))))


def history_in(folder: Path, clock: Clock | None = None) -> History:
    lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
    return History(lake, ensure_trades(lake), folder, clock or SystemClock())


def engine_in(folder: Path) -> Iterator[Engine]:
    engine = Engine(threads=1, memory_limit_bytes=2**29, spill_dir=folder / "spill")
    yield engine
    engine.close()
