"""Trades to the values of Kafka records, grouped by partition. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.kafka.ready import Section, sections
from libs.market.trade import AssetClass, Origin, Side
from libs.wire.framed import framed_trades
from libs.wire.plain import SIDES
from libs.wire.trades import proto_batch
from services.ingestor.delivering.records import Later
from services.ingestor.parsing.columns import Bools, Int64s, TradeColumns, run_bounds
from services.ingestor.parsing.symbols import SymbolTable

EXCHANGE = "BINANCE"

# Below it the fixed cost of making records by the column is more than that of one by one.
MANY_ROWS = 400

# m says that the buyer was the maker: the taker sold.
_BUY, _SELL = (np.int32(SIDES.index(side)) for side in (Side.BUY, Side.SELL))


@dataclass(frozen=True, slots=True)
class PartitionValues:
    """Records of one partition, in order; `section` is all of them in Kafka's own form."""

    partition: int
    keys: Sequence[bytes]
    values: Sequence[bytes]
    ids: Int64s
    section: Section | None = None


def encode(
    columns: TradeColumns, table: SymbolTable, schema_id: int, origin: Origin = Origin.STREAM
) -> Iterator[PartitionValues]:
    """Encode a burst, keeping the order within each partition."""
    if not len(columns):
        return
    partitions = table.partitions[columns.codes]
    order = np.argsort(partitions, kind="stable")
    columns, partitions = columns.take(order), partitions[order]
    values = framed_trades(_to_batch(columns, table, origin), schema_id)
    bounds = run_bounds(partitions)
    made = _sections(columns, table, values, bounds)
    for number, (start, end) in enumerate(pairwise(bounds)):
        codes, rows = columns.codes[start:end], end - start
        yield PartitionValues(
            int(partitions[start]),
            Later(rows, partial(_keys, table, codes)),
            Later(rows, values.slice(start, rows).to_pylist),
            columns.ids[start:end],
            made[number] if made is not None else None,
        )


def _sections(
    columns: TradeColumns, table: SymbolTable, values: pa.BinaryArray, bounds: Sequence[int]
) -> list[Section] | None:
    """Make all partitions' records at once, where they are many; else None."""
    if len(columns) < MANY_ROWS:
        return None
    return sections(table.key_fields.take(pa.array(columns.codes)), values, bounds)


def _keys(table: SymbolTable, codes: npt.NDArray[np.int32]) -> list[bytes]:
    return [table.keys[code] for code in codes.tolist()]


def _to_batch(columns: TradeColumns, table: SymbolTable, origin: Origin) -> pa.RecordBatch:
    codes = pa.array(columns.codes)
    return proto_batch(
        {
            "symbol": pc.take(table.names, codes),
            "trade_id": columns.id_texts,
            "source_sequence": pa.array(columns.ids),
            "timestamp_us": pa.array(columns.times_us),
            "ingest_timestamp_us": pa.array(columns.received_us),
            "price": columns.prices,
            "quantity": columns.quantities,
            "currency": pc.take(table.currencies, codes),
            "side": pa.array(np.where(columns.sold, _SELL, _BUY)),
            "vendor_data": _vendor_data(columns.event_times, columns.best_match)
            if origin is Origin.STREAM
            else _without_event_times(columns.best_match),
        },
        {
            "exchange": EXCHANGE,
            "asset_class": AssetClass.CRYPTO,
            "origin": origin,
        },
    )


def _vendor_data(texts: pa.StringArray, best_match: Bools) -> pa.MapArray:
    """E as the exchange stamped it, and M where it is false.

    Binance documents M as "ignore" and it is true in every capture; kept in each row it would
    cost the writer and the files as much as the price does.
    """
    rows = len(texts)
    if best_match.all():
        offsets = np.arange(rows + 1, dtype=np.int32)
        return pa.MapArray.from_arrays(offsets, pa.repeat("E", rows), texts)
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(2 - best_match.astype(np.int32), out=offsets[1:])
    is_match = np.zeros(offsets[-1], np.bool_)
    is_match[offsets[1:][~best_match] - 1] = True
    keys = pc.if_else(pa.array(is_match), "M", "E")
    return pa.MapArray.from_arrays(offsets, keys, pc.take(*_items(texts, is_match)))


def _without_event_times(best_match: Bools) -> pa.MapArray:
    """M where it is false: REST tells of no E."""
    offsets = np.zeros(len(best_match) + 1, np.int32)
    np.cumsum(~best_match, out=offsets[1:])
    told = int(offsets[-1])
    return pa.MapArray.from_arrays(offsets, pa.repeat("M", told), pa.repeat("false", told))


def _items(texts: pa.StringArray, is_match: npt.NDArray[np.bool_]) -> tuple[pa.Array, pa.Array]:
    """Return what to take from, and which of it."""
    choices = pa.concat_arrays([texts, pa.array(["false"])])
    picks = np.where(is_match, len(texts), np.cumsum(~is_match) - 1)
    return choices, pa.array(picks)
