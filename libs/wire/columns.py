"""Protobuf's columns to the table's, and which rows cannot be trades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.market.trade import DAY_US, EARLIEST_US, LATEST_RECEIPT_US
from libs.wire.codes import codes
from libs.wire.decimals import parse_decimals
from libs.wire.notional import no_notional, notional
from libs.wire.plain import ASSET_CLASSES, ORIGINS, REQUIRED_TEXTS, SIDES
from libs.wire.schema import NUMBER, TIMESTAMP, VENDOR_DATA

Mask = npt.NDArray[np.bool_]

_ZERO = pa.scalar(0, NUMBER)


@dataclass(frozen=True, slots=True)
class Columns:
    """TRADE_SCHEMA's columns without those of Kafka, enumerations as codes.

    Refused rows hold fillers.
    """

    arrays: dict[str, pa.Array]
    refused: Mask


def trade_columns(batch: pa.RecordBatch, *, enrich: bool) -> Columns:
    """Validate a PROTO_TRADE_SCHEMA batch by the rules of plain.py."""
    price, bad_price = _positive_decimals(batch["price"])
    quantity, bad_quantity = _positive_decimals(batch["quantity"])
    asset_class, bad_asset_class = _named(batch["asset_class"], ASSET_CLASSES)
    side, bad_side = _named(batch["side"], SIDES)
    origin, bad_origin = _named(batch["origin"], ORIGINS)
    refused = bad_price | bad_quantity | bad_asset_class | bad_side | bad_origin
    refused |= _empty_texts(batch) | _impossible_times(batch)
    arrays = {
        **{name: batch[name] for name in (*REQUIRED_TEXTS, "source_sequence", "sequence_epoch")},
        "asset_class": asset_class,
        "timestamp": batch["timestamp_us"].cast(TIMESTAMP),
        "ingest_timestamp": batch["ingest_timestamp_us"].cast(TIMESTAMP),
        "price": price,
        "quantity": quantity,
        "side": side,
        "trade_conditions": batch["trade_conditions"],
        "origin": origin,
        "vendor_data": _last_wins(batch["vendor_data"]),
        "notional": notional(price, quantity) if enrich else no_notional(len(batch)),
    }
    return Columns(arrays, refused)


def _positive_decimals(texts: pa.Array) -> tuple[pa.Array, Mask]:
    numbers, refused = parse_decimals(texts)
    return numbers, refused | pc.less_equal(numbers, _ZERO).to_numpy(zero_copy_only=False)


def _named(numbers: pa.Array, names: Sequence[StrEnum | None]) -> tuple[pa.Array, Mask]:
    """Turn an enumeration's numbers into codes of their names."""
    indices = numbers.to_numpy()
    known = [name for name in names if name is not None]
    code_of = np.array([0 if name is None else known.index(name) for name in names], np.int32)
    meaningless = np.array([name is None for name in names])
    out_of_range = (indices < 0) | (indices >= len(names))
    safe = np.where(out_of_range, 0, indices)
    return codes(code_of[safe], known), out_of_range | meaningless[safe]


def _empty_texts(batch: pa.RecordBatch) -> Mask:
    empty = np.zeros(len(batch), np.bool_)
    for name in REQUIRED_TEXTS:
        empty |= pc.binary_length(batch[name]).to_numpy() == 0
    return empty


def _impossible_times(batch: pa.RecordBatch) -> Mask:
    received_us: npt.NDArray[np.int64] = batch["ingest_timestamp_us"].to_numpy()
    traded_us: npt.NDArray[np.int64] = batch["timestamp_us"].to_numpy()
    impossible: Mask = (received_us < EARLIEST_US) | (received_us >= LATEST_RECEIPT_US)
    impossible |= (traded_us < EARLIEST_US) | (traded_us - DAY_US > received_us)
    return impossible


def _last_wins(maps: pa.Array) -> pa.Array:
    """Drop all but the last entry of a repeated key, as Protobuf does and ptars does not."""
    offsets = maps.offsets.to_numpy()
    if np.all(np.diff(offsets) <= 1):
        return maps if maps.type == VENDOR_DATA else maps.cast(VENDOR_DATA)
    return pa.array([dict(entries) for entries in maps.to_pylist()], VENDOR_DATA)
