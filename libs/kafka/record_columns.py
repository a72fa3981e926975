"""Records of decompressed batches as columns; values stay where they lie in the batches."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from libs.kafka.record_starts import Ints, record_starts, varints
from libs.native.library import address, native

Bytes = npt.NDArray[np.uint8]

# Arrow keeps values up to this long inside the view itself.
INLINE_BYTES = 12
# A length, attributes, a time, an offset, the lengths of key and value: a byte each at least.
LEAST_RECORD_BYTES = 6
# A view says in 31 bits where its value is.
MOST_BODY_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of some records, left where they lie in their batches until somebody asks."""

    body: bytes | bytearray
    at: Ints
    length: Ints

    def __len__(self) -> int:
        return len(self.at)

    def after(self, first: int) -> Keys:
        return self.cut(first, len(self.at))

    def cut(self, first: int, stop: int) -> Keys:
        return Keys(self.body, self.at[first:stop], self.length[first:stop])

    def array(self) -> pa.Array:
        """Copy them out: binary, null where a record has no key."""
        return short_array(self.body, self.at, self.length)


NO_KEYS = Keys(b"", np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Records:
    """Records in order; `values` are of binary_view, null where a record has none."""

    offsets: Ints
    values: pa.Array
    keys: Keys

    def cut(self, first: int, stop: int) -> Records:
        return Records(
            self.offsets[first:stop],
            self.values.slice(first, stop - first),
            self.keys.cut(first, stop),
        )


@dataclass(frozen=True, slots=True)
class Bodies:
    """Batches side by side: what a batch begins at, how many records it has, its first offset."""

    body: bytearray
    begins: Sequence[int]
    counts: Sequence[int]
    base_offsets: Sequence[int]

    def can_be(self) -> bool:
        """Say whether so many records may lie there: the counts are what the batches say."""
        if min(self.counts, default=0) < 0 or len(self.body) > MOST_BODY_BYTES:
            return False
        return LEAST_RECORD_BYTES * sum(self.counts) <= len(self.body)


def records_of(bodies: Bodies) -> Records:
    """Find every record, natively where that is compiled.

    Raises:
        IndexError: a record ends outside the batches.
    """
    return records_natively(bodies) or records_by_column(bodies)


def records_by_column(bodies: Bodies) -> Records:
    """As `records_natively`, a field of all records at a time.

    Raises:
        IndexError: a record ends outside the batches.
    """
    if not bodies.can_be():
        raise IndexError(f"{bodies.counts} records in {len(bodies.body)} bytes")
    data = np.frombuffer(bodies.body, np.uint8)
    after_attributes = record_starts(bodies.body, bodies.begins, bodies.counts) + 1
    _, at = varints(data, after_attributes)
    delta, at = varints(data, at)
    key_length, key_at = varints(data, at)
    value_length, at = varints(data, key_at + np.maximum(key_length, 0))
    offsets = np.repeat(np.array(bodies.base_offsets, np.int64), bodies.counts) + delta
    values = binary_array(bodies.body, data, at, value_length)
    return Records(offsets, values, Keys(bodies.body, key_at, key_length))


class _Given(ctypes.Structure):
    _fields_ = (
        ("body", ctypes.c_void_p),
        ("begins", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("base_offsets", ctypes.c_void_p),
        ("batches", ctypes.c_int64),
    )


class _Columns(ctypes.Structure):
    _fields_ = (
        ("offsets", ctypes.c_void_p),
        ("key_at", ctypes.c_void_p),
        ("key_length", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("has_value", ctypes.c_void_p),
        ("without_value", ctypes.c_int64),
    )


def records_natively(bodies: Bodies) -> Records | None:
    """Find every record in one loop (libs/native/records.c).

    None where nothing is compiled, or where a record does not lie within its batch: what to say of
    that is the other path's.
    """
    walk, count = native("k2_records"), sum(bodies.counts)
    if walk is None or not bodies.can_be():
        return None
    data = np.frombuffer(bodies.body, np.uint8)
    begins = np.array([*bodies.begins, len(data)], np.int64)
    counts, bases = np.array(bodies.counts, np.int64), np.array(bodies.base_offsets, np.int64)
    offsets, key_at, key_length = (np.empty(count, np.int64) for _ in range(3))
    views, has_value = np.empty((count, 4), np.int32), np.empty(count, np.bool_)
    columns = _Columns(
        *(address(column) for column in (offsets, key_at, key_length, views, has_value)), 0
    )
    given = _Given(*(address(column) for column in (data, begins, counts, bases)), len(counts))
    if walk(given, columns) != count:
        return None
    present = None if not columns.without_value else has_value
    values = view_array(bodies.body, views, present)
    return Records(offsets, values, Keys(bodies.body, key_at, key_length))


def binary_array(body: bytes | bytearray, data: Bytes, at: Ints, length: Ints) -> pa.Array:
    """Name values where they lie in the body; a negative length is a null."""
    views = np.zeros((len(at), 4), np.int32)
    views[:, 0] = np.maximum(length, 0)
    long = np.flatnonzero(length > INLINE_BYTES)
    words = np.ndarray(max(len(data) - 3, 0), np.dtype("<i4"), body, strides=(1,))
    views[long, 1] = words[at[long]]
    views[long, 3] = at[long]
    inline = views.view(np.uint8)
    for row in np.flatnonzero((length > 0) & (length <= INLINE_BYTES)).tolist():
        inline[row, 4 : 4 + length[row]] = data[at[row] : at[row] + length[row]]
    return view_array(body, views, length >= 0 if (length < 0).any() else None)


def view_array(
    body: bytes | bytearray, views: npt.NDArray[np.int32], present: npt.NDArray[np.bool_] | None
) -> pa.Array:
    there = None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))
    buffers = [there, pa.py_buffer(views), pa.py_buffer(body)]
    return pa.Array.from_buffers(pa.binary_view(), len(views), buffers)


def short_array(body: bytes | bytearray, at: Ints, length: Ints) -> pa.Array:
    """Copy short values out of the body, byte by byte at once; a negative length is a null."""
    lengths = np.maximum(length, 0)
    ends = np.cumsum(lengths)
    begins = ends - lengths
    places = np.repeat(at - begins, lengths) + np.arange(ends[-1] if len(ends) else 0)
    text = np.frombuffer(body, np.uint8)[places]
    offsets = np.concatenate([np.zeros(1, np.int32), ends.astype(np.int32)])
    there = np.packbits(length >= 0, bitorder="little")
    buffers = [pa.py_buffer(there), pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.binary(), len(at), buffers)
