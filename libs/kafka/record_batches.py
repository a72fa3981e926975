"""Kafka's record batches (format 2) cut into columns. Pure, no Python object a record."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import cramjam
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode

from libs.kafka.record_columns import Bodies, Records, records_of

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
# What damaged batches make codecs, and the walk over their records, raise.
UNREADABLE = (
    *(IndexError, KeyError, ValueError, OSError, EOFError),
    *(struct.error, zlib.error, cramjam.DecompressionError),
)
# A frame says how large its content is; what says more than this is decoded as it comes.
LARGEST_SAID_BYTES = 64 * 1024 * 1024


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
    """Batches side by side, decompressed, and their records."""

    headers: Sequence[Header]
    records: Records

    def cut(self, first: int, stop: int) -> Records:
        """Return the records of the batches [first, stop)."""
        counts = [header.records for header in self.headers]
        before = sum(counts[:first])
        return self.records.cut(before, before + sum(counts[first:stop]))


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
    bases = [header.base_offset for header in headers]
    return Opened(headers, records_of(Bodies(whole, begins, counts, bases)))


def side_by_side(bodies: Sequence[Body]) -> tuple[list[int], bytearray]:
    """Return where each body begins, and all of them as one."""
    begins = list(accumulate((body.size for body in bodies), initial=0))
    whole = bytearray(begins.pop())
    view = memoryview(whole)
    for body, begin in zip(bodies, begins, strict=True):
        body.put(view[begin : begin + body.size])
    return begins, whole


def cut(*batches: bytes | memoryview) -> Records:
    """Return the records of record batches."""
    return opened(batches).records


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
