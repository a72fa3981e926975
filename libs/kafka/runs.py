"""Records in columns: what a consumer fetched, without one Python object a record.

aiokafka makes a ConsumerRecord of eleven fields for each record, 2.0 µs of the writer's 5.9 µs a
row; cut from the record batch by numpy the same values cost 0.3 µs. `deliver_runs` changes one
consumer alone, through its fetcher's inner parts: hence aiokafka's version is held below the next.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka import AIOKafkaConsumer
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

HEADER = struct.Struct(">qiibIhiqqqhii")
CODEC_MASK = 0b111
# Where the log stamps its own time this is that of every record in the batch.
MAX_TIMESTAMP = 8
DECODERS: dict[int, Callable[[Any], bytes]] = {
    0: bytes,
    1: gzip_decode,
    2: snappy_decode,
    3: lz4_decode,
    4: zstd_decode,
}
# Arrow keeps values up to this long inside the view itself.
INLINE_BYTES = 12
# Batches are gathered up to so many records and cut together: at 200 records a batch that costs
# half of cutting each by itself, and what is decoded next costs a fifth less.
RECORDS_A_RUN = 4_096


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of some records, left where they lie in their batches until somebody asks."""

    body: bytes
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
class Run:
    """Records of one partition in offset order; they cover positions [start, following).

    Where compaction or a transaction's markers left holes, positions are more than records.
    `appended_ms` is when the log took the first of its batches, `stored_bytes` what its positions
    take there.
    """

    start: int
    following: int
    offsets: Ints
    values: pa.Array
    keys: Keys = NO_KEYS
    appended_ms: int = 0
    stored_bytes: int = 0


def deliver_runs(consumer: AIOKafkaConsumer) -> None:
    """Have a started consumer's getmany return lists of Run, and count them for max_records."""
    fetcher = consumer._fetcher  # noqa: SLF001 (see above)
    receive: FunctionType = Fetcher._proc_fetch_request  # noqa: SLF001
    parts = receive.__globals__ | {
        "PartitionRecords": PartitionRuns,
        "MemoryRecords": FetchedBatches,
    }
    fetcher._proc_fetch_request = MethodType(  # noqa: SLF001
        FunctionType(receive.__code__, parts, receive.__name__), fetcher
    )


class FetchedBatches:
    """The record batches of one response, each with its bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._batches = MemoryRecords(data)
        self._at = 0

    def has_next(self) -> bool:
        return bool(self._batches.has_next())

    def size_in_bytes(self) -> int:
        return int(self._batches.size_in_bytes())

    def next_batch(self) -> tuple[Any, memoryview]:
        start = self._at
        self._at += 12 + int.from_bytes(self._data[start + 8 : start + 12], "big")
        return self._batches.next_batch(), self._data[start : self._at]


class PartitionRuns(PartitionRecords):  # type: ignore[misc]
    """Yields Run where its parent yields records; what is skipped is the parent's to say."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Run]:
        gathered = _Gathered(self.next_fetch_offset)
        while self._records.has_next():
            batch, raw = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if not self._is_skipped(batch):
                gathered.add(raw)
            self.next_fetch_offset = batch.next_offset
            if gathered.records >= RECORDS_A_RUN:
                yield gathered.run(until=batch.next_offset)
                gathered = _Gathered(batch.next_offset)
        if gathered.records:
            yield gathered.run(until=self.next_fetch_offset)

    def _is_skipped(self, batch: Any) -> bool:
        """Follow the transactions: markers are no records, nor is what was aborted."""
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)


class _Gathered:
    """Batches in a row, to become one run."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._batches: list[memoryview] = []
        self.records = 0

    def add(self, batch: memoryview) -> None:
        count = HEADER.unpack_from(batch)[-1]
        # Compaction keeps a batch that it has emptied.
        if count:
            self._batches.append(batch)
            self.records += count

    def run(self, *, until: int) -> Run:
        offsets, values, keys = cut(*self._batches)
        first = int(np.searchsorted(offsets, self._start))
        header = HEADER.unpack_from(self._batches[0])
        share = (until - self._start) / (until - min(header[0], self._start))
        return Run(
            self._start,
            until,
            offsets[first:],
            values.slice(first),
            keys.after(first),
            appended_ms=header[MAX_TIMESTAMP],
            stored_bytes=round(share * sum(map(len, self._batches))),
        )


def cut(*batches: bytes | memoryview) -> tuple[Ints, pa.Array, Keys]:
    """Return the offsets, values and keys of record batches of Kafka's format 2."""
    headers = [HEADER.unpack_from(batch) for batch in batches]
    counts = [header[-1] for header in headers]
    bodies = [
        DECODERS[header[5] & CODEC_MASK](memoryview(batch)[HEADER.size :])
        for header, batch in zip(headers, batches, strict=True)
    ]
    body = bodies[0] if len(bodies) == 1 else b"".join(bodies)
    data = np.frombuffer(body, np.uint8)
    begins = accumulate(map(len, bodies), initial=0)
    after_attributes = record_starts(body, zip(begins, counts, strict=False)) + 1
    _, at = varints(data, after_attributes)
    delta, at = varints(data, at)
    key_length, key_at = varints(data, at)
    value_length, at = varints(data, key_at + np.maximum(key_length, 0))
    base_offset = np.repeat(np.array([header[0] for header in headers], np.int64), counts)
    values = binary_array(body, data, at, value_length)
    return base_offset + delta, values, Keys(body, key_at, key_length)


def record_starts(body: bytes, batches: Iterable[tuple[int, int]]) -> Ints:
    """Return where each record's first byte after its length is: each length leads to the next.

    `batches` say where each begins and how many records it has.
    """
    starts: list[int] = []
    for begin, count in batches:
        at = begin
        for _ in range(count):
            length = body[at]
            at += 1
            if length >= 0x80:
                length &= 0x7F
                shift = 7
                while (octet := body[at]) >= 0x80:
                    length |= (octet & 0x7F) << shift
                    shift += 7
                    at += 1
                length |= octet << shift
                at += 1
            starts.append(at)
            at += length >> 1
    return np.array(starts, np.int64)


def varints(data: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """Read one zigzag varint at each place; return them and the places after."""
    octet = data[at].astype(np.int64)
    raw, after, shift = octet & 0x7F, at + 1, 7
    going_on = np.flatnonzero(octet & 0x80)
    while len(going_on):
        octet = data[after[going_on]].astype(np.int64)
        raw[going_on] |= (octet & 0x7F) << shift
        after[going_on] += 1
        shift += 7
        going_on = going_on[(octet & 0x80) != 0]
    return (raw >> 1) ^ -(raw & 1), after


def binary_array(body: bytes, data: Bytes, at: Ints, length: Ints) -> pa.Array:
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


def short_array(body: bytes, at: Ints, length: Ints) -> pa.Array:
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
