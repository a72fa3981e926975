"""Kafka's record batches (format 2) cut into columns. Pure, no Python object a record."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import cramjam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode

from libs.kafka.record_starts import Ints, record_starts, varints

Bytes = npt.NDArray[np.uint8]

HEADER = struct.Struct(">qiibIhiqqqhii")
CODEC = 5
CODEC_MASK = 0b111
# Where the log stamps its own time this is that of every record in the batch.
MAX_TIMESTAMP = 8
RECORDS = 12
ZSTD = 4
ZSTD_MAGIC = bytes.fromhex("28b52ffd")
DECODERS: dict[int, Callable[[Any], bytes]] = {
    0: bytes,
    1: gzip_decode,
    2: snappy_decode,
    3: lz4_decode,
    ZSTD: zstd_decode,
}
# A frame says how large its content is; what says more than this is decoded as it comes.
LARGEST_SAID_BYTES = 64 * 1024 * 1024
# Arrow keeps values up to this long inside the view itself.
INLINE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of some records, left where they lie in their batches until somebody asks."""

    body: bytes | bytearray
    at: Ints
    length: Ints

    def __len__(self) -> int:
        return len(self.at)

    def after(self, first: int) -> Keys:
        return Keys(self.body, self.at[first:], self.length[first:])

    def array(self) -> pa.Array:
        """Copy them out: binary, null where a record has no key."""
        return short_array(self.body, self.at, self.length)


NO_KEYS = Keys(b"", np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Header:
    """What a batch says of itself."""

    base_offset: int
    codec: int
    max_timestamp_ms: int
    records: int


def header_of(batch: bytes | memoryview) -> Header:
    fields = HEADER.unpack_from(batch)
    return Header(fields[0], fields[CODEC] & CODEC_MASK, fields[MAX_TIMESTAMP], fields[RECORDS])


@dataclass(frozen=True, slots=True)
class Opened:
    """Batches side by side, decompressed; `starts` is where each record is, after its length."""

    headers: Sequence[Header]
    body: bytearray
    starts: Ints

    def cut(self, first: int, stop: int) -> tuple[Ints, pa.Array, Keys]:
        """Return the offsets, values and keys of the batches [first, stop)."""
        counts = [header.records for header in self.headers]
        before, records = sum(counts[:first]), sum(counts[first:stop])
        data = np.frombuffer(self.body, np.uint8)
        after_attributes = self.starts[before : before + records] + 1
        _, at = varints(data, after_attributes)
        delta, at = varints(data, at)
        key_length, key_at = varints(data, at)
        value_length, at = varints(data, key_at + np.maximum(key_length, 0))
        bases = np.array([header.base_offset for header in self.headers[first:stop]], np.int64)
        offsets = np.repeat(bases, counts[first:stop]) + delta
        values = binary_array(self.body, data, at, value_length)
        return offsets, values, Keys(self.body, key_at, key_length)


def opened(batches: Sequence[bytes | memoryview]) -> Opened:
    """Decompress batches, one after the other into the same bytes."""
    headers = [header_of(batch) for batch in batches]
    packed = [memoryview(batch)[HEADER.size :] for batch in batches]
    codecs = [header.codec for header in headers]
    try:
        begins, whole = side_by_side(list(map(Body.as_said, packed, codecs)))
    except cramjam.DecompressionError:
        # More than one frame, of which only the first was asked how large it is.
        begins, whole = side_by_side(list(map(Body.unpacked, packed, codecs)))
    counts = [header.records for header in headers]
    return Opened(headers, whole, record_starts(whole, begins, counts))


def side_by_side(bodies: Sequence[Body]) -> tuple[list[int], bytearray]:
    """Return where each body begins, and all of them as one."""
    begins = list(accumulate((body.size for body in bodies), initial=0))
    whole = bytearray(begins.pop())
    view = memoryview(whole)
    for body, begin in zip(bodies, begins, strict=True):
        body.put(view[begin : begin + body.size])
    return begins, whole


def cut(*batches: bytes | memoryview) -> tuple[Ints, pa.Array, Keys]:
    """Return the offsets, values and keys of record batches."""
    return opened(batches).cut(0, len(batches))


@dataclass(frozen=True, slots=True)
class Body:
    """A batch's records: packed, where zstd says how large they are, so that nothing is copied."""

    packed: memoryview
    size: int
    is_packed: bool

    @classmethod
    def as_said(cls, packed: memoryview, codec: int) -> Body:
        size = content_size(packed) if codec == ZSTD else None
        if size is None or size > LARGEST_SAID_BYTES:
            return cls.unpacked(packed, codec)
        return cls(packed, size, is_packed=True)

    @classmethod
    def unpacked(cls, packed: memoryview, codec: int) -> Body:
        plain = memoryview(DECODERS[codec](packed))
        return cls(plain, len(plain), is_packed=False)

    def put(self, place: memoryview) -> None:
        """Write the records to their place.

        Raises:
            cramjam.DecompressionError: they are not as large as was said.
        """
        if not self.is_packed:
            place[:] = self.packed
        elif cramjam.zstd.decompress_into(self.packed, place) != self.size:
            raise cramjam.DecompressionError("a frame is not as large as it says")


def content_size(frame: memoryview) -> int | None:
    """Return what one zstd frame says its content takes; None where it does not (RFC 8878)."""
    if frame[:4] != ZSTD_MAGIC:
        return None
    descriptor = frame[4]
    flag, single = descriptor >> 6, bool(descriptor & 0x20)
    if not flag and not single:
        return None
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(frame[at : at + (1 << flag)], "little")
    return size + 256 if flag == 1 else size


def binary_array(body: bytes | bytearray, data: Bytes, at: Ints, length: Ints) -> pa.Array:
    """Copy values out of the body into one Arrow array; a negative length is a null."""
    views = np.zeros((len(at), 4), np.int32)
    views[:, 0] = np.maximum(length, 0)
    long = np.flatnonzero(length > INLINE_BYTES)
    words = np.ndarray(max(len(data) - 3, 0), np.dtype("<i4"), body, strides=(1,))
    views[long, 1] = words[at[long]]
    views[long, 3] = at[long]
    inline = views.view(np.uint8)
    for row in np.flatnonzero((length > 0) & (length <= INLINE_BYTES)).tolist():
        inline[row, 4 : 4 + length[row]] = data[at[row] : at[row] + length[row]]
    buffers = [None, pa.py_buffer(views), pa.py_buffer(body)]
    values = pa.Array.from_buffers(pa.binary_view(), len(at), buffers).cast(pa.binary())
    if (length < 0).any():
        return pc.if_else(pa.array(length >= 0), values, pa.scalar(None, pa.binary()))
    return values


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
