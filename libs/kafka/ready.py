"""Record batches made by the column, without a Python call a record.

aiokafka's builder takes records one by one, half a microsecond each. Here Arrow puts the records of
many partitions together at once, in the form that Kafka has for them
(https://kafka.apache.org/documentation/#recordbatch), and a batch is a piece of that.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cramjam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.record.util import calc_crc32c

Int64s = npt.NDArray[np.int64]

# Offset, length, leader's epoch, magic, checksum; then what the checksum covers: attributes, last
# offset, first and last time, producer's id and epoch, first number, count of records.
_BEGINNING, _COVERED = struct.Struct(">qiibI"), struct.Struct(">hiqqqhii")
_LENGTH_FROM = 12
_MAGIC = 2
_NO_EPOCH = -1
_ZSTD = 4
# Kafka's own default, 3, takes a third more time, and for trades as much room.
_LEVEL = 1
# Longer records, and more of them in a batch, are left to aiokafka.
_MOST = 2**14
# Attributes and a time that is the batch's.
_USUAL = b"\0\0"
_NO_HEADERS = pa.scalar(b"\0", pa.binary())
_NOTHING = pa.scalar(b"", pa.binary())


def _varint(number: int) -> bytes:
    """Write a number as Kafka does: zigzag, seven bits a byte, the lowest first."""
    rest, written = number << 1, bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*written, rest])


_VARINTS = [_varint(number) for number in range(_MOST)]
_NUMBERS = pa.array(_VARINTS, pa.binary())
_BEGINNINGS = pa.array([length + _USUAL for length in _VARINTS], pa.binary())
_WIDTHS = np.array([len(text) for text in _VARINTS], np.int64)


@dataclass(frozen=True, slots=True)
class Section:
    """The records of one batch, in Kafka's own form."""

    data: memoryview
    records: int


def key_fields(keys: Sequence[bytes]) -> pa.BinaryArray:
    """Write keys as they stand in records, each after its length."""
    return pa.array([_varint(len(key)) + key for key in keys], pa.binary())


def sections(
    keys: pa.BinaryArray, values: pa.BinaryArray, starts: Sequence[int]
) -> list[Section] | None:
    """Make a section of the records from each of `starts` to the next, the last of them the end.

    `keys` come from key_fields, one a record. None where a record or a section is too long.
    """
    begins = np.repeat(starts[:-1], np.diff(starts))
    numbers = np.arange(len(values)) - begins
    key_bytes, value_bytes = _lengths(keys), _lengths(values)
    if max(value_bytes.max(initial=0), numbers.max(initial=0)) >= _MOST:
        return None
    own = len(_USUAL) + 1 + _WIDTHS[numbers] + key_bytes + _WIDTHS[value_bytes] + value_bytes
    if own.max(initial=0) >= _MOST:
        return None
    records = pc.binary_join_element_wise(
        _BEGINNINGS.take(pa.array(own)),
        _NUMBERS.take(pa.array(numbers)),
        keys,
        _NUMBERS.take(pa.array(value_bytes)),
        values,
        _NO_HEADERS,
        _NOTHING,
    )
    return list(_cut(records, starts))


def _lengths(column: pa.BinaryArray) -> Int64s:
    return np.asarray(pc.binary_length(column)).astype(np.int64)


def _cut(records: pa.BinaryArray, starts: Sequence[int]) -> Iterator[Section]:
    _, offsets, data = records.buffers()
    ends = np.frombuffer(offsets, np.int32)[records.offset :]
    whole = memoryview(data or b"")
    for start, end in pairwise(starts):
        yield Section(whole[ends[start] : ends[end]], end - start)


class ReadyBatch:
    """A section as what AIOKafkaProducer.send_batch takes: aiokafka 0.14's BatchBuilder."""

    def __init__(self, section: Section) -> None:
        self._section = section
        self._producer = (-1, -1, 0)
        self._built = b""

    def append(self, **_: object) -> None:
        """Take nothing more."""

    def close(self) -> None: ...

    def closed(self) -> bool:
        return True

    def size(self) -> int:
        return len(self._built) or len(self._section.data)

    def record_count(self) -> int:
        return self._section.records

    def _set_producer_state(self, producer_id: int, epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, epoch, base_sequence)

    def _build(self) -> bytes:
        if not self._built:
            now_ms = time.time_ns() // 1_000_000
            self._built = built(self._section, self._producer, now_ms)
        return self._built


def built(section: Section, producer: tuple[int, int, int], now_ms: int) -> bytes:
    """Compress a section and put its head before it; `producer` is id, epoch and first number."""
    records = bytes(cramjam.zstd.compress(section.data, level=_LEVEL))
    last = section.records - 1
    covered = _COVERED.pack(_ZSTD, last, now_ms, now_ms, *producer, section.records) + records
    length = _BEGINNING.size - _LENGTH_FROM + len(covered)
    head = _BEGINNING.pack(0, length, _NO_EPOCH, _MAGIC, calc_crc32c(covered))
    return head + covered
