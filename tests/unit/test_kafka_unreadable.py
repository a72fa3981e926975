"""A record batch that is none: what stands before it is delivered, and it is named."""

from __future__ import annotations

import struct

import pytest
from aiokafka import TopicPartition
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c_py

from libs.kafka.runs import FetchedBatches, PartitionRuns
from libs.kafka.unreadable import NamedRecords, UnreadableBatchError
from tests.property.test_kafka_runs_properties import ATTRIBUTES_AT, RECORDS_AT, batch_of

TP = TopicPartition("trades", 3)
CRC_AT, COUNT_AT = 17, 57
ROWS = 100


def whole(base: int) -> bytes:
    return batch_of([(b"k", b"v" * 30)] * ROWS, compression=4, base=base)


def with_crc(batch: bytearray) -> bytes:
    """Have a batch's checksum right again, whatever it holds."""
    batch[CRC_AT : CRC_AT + 4] = struct.pack(">I", calc_crc32c_py(bytes(batch[CRC_AT + 4 :])))
    return bytes(batch)


def damaged(kind: str, base: int) -> bytes:
    batch = bytearray(whole(base))
    if kind == "a codec nobody knows":
        batch[ATTRIBUTES_AT] |= 7
    elif kind == "more records than bytes":
        batch[COUNT_AT : COUNT_AT + 4] = struct.pack(">i", 10**6)
    elif kind == "less records than none":
        batch[COUNT_AT : COUNT_AT + 4] = struct.pack(">i", -5)
    elif kind == "no zstd":
        batch[RECORDS_AT : RECORDS_AT + 8] = b"\xff" * 8
    elif kind == "no gzip":
        batch[ATTRIBUTES_AT] = batch[ATTRIBUTES_AT] & ~7 | 1
    elif kind == "no lz4":
        batch[ATTRIBUTES_AT] = batch[ATTRIBUTES_AT] & ~7 | 3
    elif kind == "no snappy":
        batch[ATTRIBUTES_AT] = batch[ATTRIBUTES_AT] & ~7 | 2
    elif kind == "no compression":
        batch[ATTRIBUTES_AT] &= ~7
    else:
        batch[RECORDS_AT + 9] ^= 0xFF
        return bytes(batch)
    return with_crc(batch)


KINDS = (
    "a codec nobody knows",
    "more records than bytes",
    "less records than none",
    "no zstd",
    "no gzip",
    "no lz4",
    "no snappy",
    "no compression",
    "a wrong checksum",
)


def reading(data: bytes, at: int) -> PartitionRuns:
    return PartitionRuns(TP, FetchedBatches(data), [], at, None, None, True, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_before_a_batch_that_is_none_is_delivered(kind: str) -> None:
    """Up to it, and the position stops there: nothing is lost, and nothing passed by."""
    read = reading(whole(0) + whole(ROWS) + damaged(kind, 2 * ROWS) + whole(3 * ROWS), at=5)
    offsets = [offset for run in read for offset in run.offsets.tolist()]
    assert offsets == list(range(5, 2 * ROWS))
    assert read.next_fetch_offset == 2 * ROWS


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_is_none_is_named(kind: str) -> None:
    """With its place in the log, once it is the next to be read."""
    read = reading(damaged(kind, 2 * ROWS) + whole(3 * ROWS), at=2 * ROWS)
    with pytest.raises(UnreadableBatchError, match="offset 200 of trades, partition 3") as refused:
        next(read)
    assert (refused.value.position, refused.value.offset) == (TP, 2 * ROWS)
    assert read.next_fetch_offset == 2 * ROWS


def by_record(data: bytes, at: int) -> NamedRecords:
    return NamedRecords(TP, MemoryRecords(data), [], at, None, None, True, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_record_by_record_it_is_the_same(kind: str) -> None:
    """As the query service reads: what stands before it is delivered, and then it is named."""
    read = by_record(whole(0) + damaged(kind, ROWS) + whole(2 * ROWS), at=5)
    offsets = [record.offset for record in read]
    assert offsets[: ROWS - 5] == list(range(5, ROWS))
    assert read.next_fetch_offset == offsets[-1] + 1
    again = by_record(damaged(kind, ROWS) + whole(2 * ROWS), at=read.next_fetch_offset)
    with pytest.raises(UnreadableBatchError) as refused:
        next(again)
    assert (refused.value.position, refused.value.offset) == (TP, read.next_fetch_offset)
