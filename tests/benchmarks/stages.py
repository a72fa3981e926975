"""What each stage of the writer costs a row: its own functions, one after the other in one thread.

What is not in the sum is what the whole writer spends beside them: sockets, hand-overs between
threads, commits, and caches that three threads share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from libs.kafka.record_batches import ZSTD, Opened, opened
from libs.kafka.record_starts import Ints
from libs.kafka.runs import RECORDS_A_RUN
from libs.kafka.topics import TRADES_BINANCE
from libs.lake.files.arrange import arrange
from libs.lake.files.datafile import write_trades
from libs.lake.files.layout import coded_columns, parquet_writer, reordered, row_groups
from libs.lake.ledger.claims import first_wins
from libs.lake.table.catalog import open_lake
from libs.lake.table.tables import TRADES_SCHEMA, ensure_trades
from libs.market.trade import AssetClass, Origin
from libs.runtime.memory import keep_compact
from libs.wire.framing import HEADER_BYTES
from libs.wire.kernel import take
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import TradeDecoder, encode_trades, proto_batch, register_trades
from tests.benchmarks.figures import Figure
from tests.benchmarks.run import Run
from tools.simulator.session import generated

R = TypeVar("R")

TRADES = 200_000
SYMBOLS = 2
RECORDS_A_BATCH = 200
ROUNDS = 5
DOES_AGAIN = {
    "put into batches": ("Protobuf, checks",),
    "statistics, disk": ("sort", "put together, reorder", "Parquet"),
}


async def measure(run: Run) -> list[Figure]:
    """Measure every stage on the rows of one commit of one partition, the best of some rounds."""
    keep_compact()
    run.folder.mkdir(parents=True, exist_ok=True)
    registry = SchemaRegistry(run.folder / "schemas.json")
    schema_id = register_trades(registry, TRADES_BINANCE)
    batches = record_batches(encoded(run.sized(TRADES), schema_id))
    run.say(f"the stages of {run.sized(TRADES):,} rows, {ROUNDS} times")
    rounds = [one_round(run, registry, batches, number) for number in range(ROUNDS)]
    best = alone({stage: min(each[stage] for each in rounds) for stage in rounds[0]})
    whole = sum(best.values())
    return [
        Figure(f"writer, {stage}", {"µs/row": us, "%": 100 * us / whole}, "")
        for stage, us in {**best, "all stages": whole}.items()
    ]


def alone(us: Mapping[str, float]) -> dict[str, float]:
    """Take from a stage that does others over again what those take."""
    own = {stage: sum(us[other] for other in others) for stage, others in DOES_AGAIN.items()}
    return {stage: max(0.0, spent - own.get(stage, 0.0)) for stage, spent in us.items()}


def one_round(
    run: Run, registry: SchemaRegistry, batches: Sequence[bytes], number: int
) -> dict[str, float]:
    spent = Spent()
    whole: Opened = spent.on("unpack, find records", lambda: opened(batches))
    offsets, values = spent.on("runs", lambda: cut_by_runs(whole))
    decoder = TradeDecoder(registry, coded=True)
    first = values[0].as_py()[:HEADER_BYTES]
    spent.on("Protobuf, checks", lambda: take(values, first, enrich=True))
    found = spent.on(
        "put into batches",
        lambda: decoder.decode(values, topic=TRADES_BINANCE, partition=0, offsets=offsets),
    )
    store(run, pa.Table.from_batches([found.batch]), spent, number)
    return {stage: seconds / len(values) * 1e6 for stage, seconds in spent.seconds.items()}


def cut_by_runs(whole: Opened) -> tuple[Ints, pa.Array]:
    """Cut as many batches at a time as the consumer does, and join them as the writer does."""
    step, count = RECORDS_A_RUN // RECORDS_A_BATCH, len(whole.headers)
    runs = [whole.cut(first, min(first + step, count)) for first in range(0, count, step)]
    joined = pa.concat_arrays([run.values for run in runs])
    return np.concatenate([run.offsets for run in runs]), joined


def store(run: Run, rows: pa.Table, spent: Spent, number: int) -> None:
    lake = open_lake(f"sqlite:///{run.folder}/catalog-{number}.db", run.folder / f"lake-{number}")
    try:
        table = ensure_trades(lake)
        wins = spent.on("first wins", lambda: first_wins(rows, {}))
        order, parts = spent.on("sort", lambda: arrange(rows))
        held = spent.on(
            "put together, reorder", lambda: reordered(coded_columns(rows, TRADES_SCHEMA), order)
        )

        def encode() -> None:
            for part in parts:
                with parquet_writer(pa.BufferOutputStream(), held.schema) as writer:
                    for start, stop in row_groups(part):
                        writer.write_table(held.slice(part.start + start, stop - start))

        spent.on("Parquet", encode)
        spent.on("statistics, disk", lambda: write_trades(table, rows, claims=wins.claims))
    finally:
        lake.close()


class Spent:
    """CPU seconds of this thread by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def on(self, stage: str, work: Callable[[], R]) -> R:
        began = time.thread_time()
        result = work()
        self.seconds[stage] = time.thread_time() - began
        return result


def encoded(trades: int, schema_id: int) -> list[tuple[bytes, bytes]]:
    """Return the keys and values that the ingestor would send for so many trades."""
    session = generated(
        7, symbols=SYMBOLS, duration_s=trades / 1_000, trades=trades, time_unit="us"
    )
    names = pa.array(session.symbols)
    pairs: list[tuple[bytes, bytes]] = []
    for chunk in session.chunks():
        held, rows = chunk.trades, len(chunk.trades)
        if not rows:
            continue
        times = pc.cast(pa.array(held.time_us), pa.string())
        entries = pa.MapArray.from_arrays(
            np.arange(rows + 1, dtype=np.int32), pa.repeat("E", rows), times
        )
        columns = {
            "symbol": names.take(pa.array(held.symbol)),
            "trade_id": pc.cast(pa.array(held.trade_id), pa.string()),
            "source_sequence": pa.array(held.trade_id),
            "timestamp_us": pa.array(held.time_us),
            "ingest_timestamp_us": pa.array(chunk.received_ns[held.message] // 1_000),
            "price": held.price,
            "quantity": held.quantity,
            "side": pa.array(np.where(held.is_buyer_maker, 2, 1).astype(np.int32)),
            "vendor_data": entries,
        }
        constants = {
            "exchange": "BINANCE",
            "asset_class": AssetClass.CRYPTO,
            "currency": "USDT",
            "origin": Origin.STREAM,
        }
        keys = [session.symbols[code].encode() for code in held.symbol.tolist()]
        pairs += zip(keys, encode_trades(proto_batch(columns, constants), schema_id), strict=True)
    return pairs


def record_batches(pairs: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Pack records as a producer's batches, compressed as the ingestor's are."""
    batches = []
    for base in range(0, len(pairs), RECORDS_A_BATCH):
        builder = DefaultRecordBatchBuilder(2, ZSTD, 0, -1, -1, 0, 1 << 24)
        for delta, (key, value) in enumerate(pairs[base : base + RECORDS_A_BATCH]):
            builder.append(delta, 1_700_000_000_000 + delta, key, value, [])
        built = bytearray(builder.build())
        built[:8] = base.to_bytes(8, "big")
        batches.append(bytes(built))
    return batches
