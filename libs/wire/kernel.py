"""Framed trades to TRADE_SCHEMA's columns in one native loop (libs/native/trades.c).

It takes the rows that are trades beyond doubt; trades.py reads the others as it reads all of them
where nothing is compiled, and property tests hold the two equal.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from libs.market.trade import DAY_US, EARLIEST_US, LATEST_RECEIPT_US
from libs.native.library import address, native
from libs.wire.codes import codes
from libs.wire.notional import no_notional
from libs.wire.plain import ASSET_CLASSES, ORIGINS, SIDES
from libs.wire.schema import NOTIONAL, NUMBER, TEXTS, TIMESTAMP, VENDOR_DATA

Ints = npt.NDArray[np.int64]

VIEW = np.dtype(
    [("length", np.int32), ("prefix", np.int32), ("buffer", np.int32), ("at", np.int32)]
)
TEXT = np.dtype([("at", np.int64), ("length", np.int64)])
# Rows of more conditions, or vendor's fields, than this on the average are read by the other path.
ENTRIES_A_ROW = 4
SPARE_ENTRIES = 64
MOST_BYTES = 2**31 - 1
_NAMED = {
    "asset_class": [name for name in ASSET_CLASSES if name is not None],
    "side": list(SIDES),
    "origin": [name for name in ORIGINS if name is not None],
}


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows taken, in order, by where they stood, and their columns."""

    rows: Ints
    arrays: Mapping[str, pa.Array]


class _Given(ctypes.Structure):
    _fields_ = (
        ("views", ctypes.c_void_p),
        ("buffers", ctypes.c_void_p),
        ("present", ctypes.c_void_p),
        ("first", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("header", ctypes.c_uint8 * 8),
        ("header_bytes", ctypes.c_int64),
        ("earliest_us", ctypes.c_int64),
        ("latest_receipt_us", ctypes.c_int64),
        ("day_us", ctypes.c_int64),
        ("asset_classes", ctypes.c_int64),
        ("sides", ctypes.c_int64),
        ("origins", ctypes.c_int64),
    )


class _Texts(ctypes.Structure):
    _fields_ = (("ends", ctypes.c_void_p), ("bytes", ctypes.c_void_p), ("count", ctypes.c_int64))


class _Codes(ctypes.Structure):
    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("slot_mask", ctypes.c_int64),
        ("count", ctypes.c_int64),
    )


class _Columns(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("exchange", _Codes),
        ("symbol", _Codes),
        ("currency", _Codes),
        ("asset_class", ctypes.c_void_p),
        ("side", ctypes.c_void_p),
        ("origin", ctypes.c_void_p),
        ("trade_id", _Texts),
        ("source_sequence", ctypes.c_void_p),
        ("has_sequence", ctypes.c_void_p),
        ("without_sequence", ctypes.c_int64),
        ("sequence_epoch", ctypes.c_void_p),
        ("timestamp_us", ctypes.c_void_p),
        ("ingest_timestamp_us", ctypes.c_void_p),
        ("price", ctypes.c_void_p),
        ("quantity", ctypes.c_void_p),
        ("notional", ctypes.c_void_p),
        ("conditions_ends", ctypes.c_void_p),
        ("conditions", _Texts),
        ("vendor_ends", ctypes.c_void_p),
        ("vendor_keys", _Texts),
        ("vendor_values", _Texts),
        ("most_entries", ctypes.c_int64),
    )


def take(values: pa.Array, header: bytes, *, enrich: bool) -> Taken | None:
    """Read values, of binary or binary_view; None where nothing is compiled."""
    read = native("k2_trades")
    views = values.cast(pa.binary_view())
    if read is None or not len(views):
        return None
    validity, held, *buffers = views.buffers()
    lengths = np.frombuffer(held, VIEW)["length"][views.offset : views.offset + len(views)]
    most_bytes = int(lengths.sum(dtype=np.int64))
    if most_bytes > MOST_BYTES:
        return None
    addresses = np.array([buffer.address for buffer in buffers] or [0], np.int64)
    given = _Given(
        held.address,
        address(addresses),
        validity.address if validity is not None else None,
        views.offset,
        len(views),
        (ctypes.c_uint8 * 8)(*header),
        len(header),
        EARLIEST_US,
        LATEST_RECEIPT_US,
        DAY_US,
        *map(len, _NAMED.values()),
    )
    room = _Room(len(views), most_bytes, enrich=enrich)
    return room.taken(read(given, room.columns))


class _Room:
    """Places for all that some rows may hold."""

    def __init__(self, rows: int, most_bytes: int, *, enrich: bool) -> None:
        entries = ENTRIES_A_ROW * rows + SPARE_ENTRIES
        self._ints = {
            name: np.empty(rows, np.int64)
            for name in ("rows", "source_sequence", "timestamp_us", "ingest_timestamp_us")
        }
        self._codes = {name: np.empty(rows, np.int32) for name in (*_NAMED, "sequence_epoch")}
        self._has_sequence = np.empty(rows, np.bool_)
        self._numbers = {
            name: np.empty((rows, 2), np.uint64)
            for name in ("price", "quantity", *(["notional"] if enrich else []))
        }
        self._coded = {name: _CodedRoom(rows) for name in ("exchange", "symbol", "currency")}
        self._trade_id = _TextRoom(rows, most_bytes)
        self._lists = {
            "conditions": np.zeros(rows + 1, np.int32),
            "vendor": np.zeros(rows + 1, np.int32),
        }
        self._texts = {
            name: _TextRoom(entries, most_bytes)
            for name in ("conditions", "vendor_keys", "vendor_values")
        }
        arrays = self._ints | self._codes | self._numbers
        self.columns = _Columns(
            has_sequence=address(self._has_sequence),
            trade_id=self._trade_id.said,
            most_entries=entries,
            **{name: address(array) for name, array in arrays.items()},
            **{name: coded.said for name, coded in self._coded.items()},
            **{name: texts.said for name, texts in self._texts.items()},
            **{f"{name}_ends": address(ends) for name, ends in self._lists.items()},
        )

    def taken(self, count: int) -> Taken:
        """Put what was read of so many rows into Arrow's form."""
        found = self.columns
        arrays = {
            "trade_id": self._trade_id.array(count),
            "source_sequence": self._sequences(count),
            "sequence_epoch": pa.array(self._codes["sequence_epoch"][:count]),
            "timestamp": pa.array(self._ints["timestamp_us"][:count]).view(TIMESTAMP),
            "ingest_timestamp": pa.array(self._ints["ingest_timestamp_us"][:count]).view(TIMESTAMP),
            "price": decimals(self._numbers["price"][:count], NUMBER),
            "quantity": decimals(self._numbers["quantity"][:count], NUMBER),
            "notional": self._notional(count),
            "trade_conditions": pa.ListArray.from_arrays(
                pa.array(self._lists["conditions"][: count + 1]),
                self._texts["conditions"].array(found.conditions.count),
                type=TEXTS,
            ),
            "vendor_data": pa.MapArray.from_arrays(
                pa.array(self._lists["vendor"][: count + 1]),
                self._texts["vendor_keys"].array(found.vendor_keys.count),
                self._texts["vendor_values"].array(found.vendor_values.count),
                VENDOR_DATA,
            ),
        }
        arrays |= {name: codes(self._codes[name][:count], kinds) for name, kinds in _NAMED.items()}
        arrays |= {
            name: room.array(count, getattr(found, name).count)
            for name, room in self._coded.items()
        }
        return Taken(self._ints["rows"][:count], arrays)

    def _sequences(self, count: int) -> pa.Array:
        present = None
        if self.columns.without_sequence:
            bits = np.packbits(self._has_sequence[:count], bitorder="little")
            present = pa.py_buffer(bits)
        held = pa.py_buffer(self._ints["source_sequence"][:count])
        return pa.Array.from_buffers(pa.int64(), count, [present, held])

    def _notional(self, count: int) -> pa.Array:
        products = self._numbers.get("notional")
        return no_notional(count) if products is None else decimals(products[:count], NOTIONAL)


class _TextRoom:
    def __init__(self, texts: int, most_bytes: int) -> None:
        self._ends = np.empty(texts + 1, np.int32)
        self._ends[0] = 0
        self._bytes = np.empty(most_bytes, np.uint8)
        self.said = _Texts(address(self._ends), address(self._bytes), 0)

    def array(self, count: int) -> pa.Array:
        """Copy out what is used, and give the rest back."""
        ends = self._ends[: count + 1].copy()
        text = self._bytes[: ends[-1]].copy()
        return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(text))


class _CodedRoom:
    def __init__(self, rows: int) -> None:
        slots = 1 << (2 * rows).bit_length()
        self._codes = np.empty(rows, np.int32)
        self._values = np.empty(rows, TEXT)
        self._slots = np.full(slots, -1, np.int32)
        self.said = _Codes(
            address(self._codes), address(self._values), address(self._slots), slots - 1, 0
        )

    def array(self, count: int, values: int) -> pa.DictionaryArray:
        """Read the distinct texts where they lie: what holds them must still be there."""
        texts = [
            ctypes.string_at(at, length).decode("ascii")
            for at, length in self._values[:values].tolist()
        ]
        return codes(self._codes[:count], texts)


def decimals(words: npt.NDArray[np.uint64], kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(words), [None, pa.py_buffer(words)])
