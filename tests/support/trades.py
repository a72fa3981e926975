"""Rows of trades by the column, as a decoder would hand them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from libs.lake.table.tables import bucket_of
from libs.wire.schema import TRADE_SCHEMA

DAY_US = 86_400_000_000
FIRST_DAY_US = 19_943 * DAY_US
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT")
TOPIC = "market.crypto.trades.binance"


def trade_rows(
    count: int,
    *,
    seed: int = 7,
    symbols: Sequence[str] = SYMBOLS,
    start_us: int = FIRST_DAY_US,
    spread_us: int = 3_600_000_000,
    first_offset: int = 0,
    columns: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """Return `count` rows of TRADE_SCHEMA, reproducible from their seed.

    Partitions follow the symbols' buckets; offsets run from `first_offset` in each, and so do the
    exchange's ids of each symbol.
    """
    rng = np.random.default_rng(seed)
    symbol = rng.integers(0, len(symbols), count)
    partition = np.array([bucket_of(name) for name in symbols])[symbol]
    made = {
        **texts(count, symbol, symbols, rng),
        **numbers(count, rng),
        "source_sequence": pa.array(offsets(symbol, first_offset), mask=rng.random(count) < 0.05),
        "sequence_epoch": pa.array(np.zeros(count, dtype=np.int32)),
        "timestamp": pa.array(np.sort(rng.integers(0, spread_us, count)) + start_us),
        "ingest_timestamp": pa.array(np.arange(count) + start_us + spread_us),
        "trade_conditions": nested("trade_conditions", [["X", "I"][: n % 3] for n in range(count)]),
        "vendor_data": nested(
            "vendor_data", [[("event_time", str(n))][: n % 2] for n in range(count)]
        ),
        "kafka_partition": pa.array(partition.astype(np.int32)),
        "kafka_offset": pa.array(offsets(partition, first_offset)),
        **(columns or {}),
    }
    arrays = [made[field.name].cast(field.type) for field in TRADE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=TRADE_SCHEMA)


def nested(column: str, values: list[object]) -> pa.Array:
    return pa.array(values, TRADE_SCHEMA.field(column).type)


def texts(
    count: int, symbol: np.ndarray, symbols: Sequence[str], rng: np.random.Generator
) -> dict[str, pa.Array]:
    constant = {
        "exchange": "BINANCE",
        "asset_class": "CRYPTO",
        "currency": "USDT",
        "origin": "STREAM",
        "kafka_topic": TOPIC,
    }
    return {
        **{name: pa.array([value] * count) for name, value in constant.items()},
        "symbol": pa.array(list(symbols)).take(pa.array(symbol)),
        "side": pa.array(["BUY", "SELL"]).take(pa.array(rng.integers(0, 2, count))),
        "trade_id": pa.array(np.arange(count) + 10**9).cast(pa.string()),
    }


def numbers(count: int, rng: np.random.Generator) -> dict[str, pa.Array]:
    cents = rng.integers(1, 10**7, count)
    lots = rng.integers(1, 10**6, count)
    return {
        "price": decimals(cents, 2),
        "quantity": decimals(lots, 5),
        "notional": decimals(cents, 2),
    }


def decimals(unscaled: np.ndarray, scale: int) -> pa.Array:
    return pa.array([f"{value}E-{scale}" for value in unscaled.tolist()]).cast(
        pa.decimal128(28, 12)
    )


def offsets(partition: np.ndarray, first: int) -> np.ndarray:
    numbered = np.zeros(len(partition), dtype=np.int64)
    for value in np.unique(partition):
        mine = partition == value
        numbered[mine] = first + np.arange(mine.sum())
    return numbered
