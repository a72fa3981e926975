"""Record batches made by the column, against aiokafka's own, record for record."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from libs.kafka.ready import ReadyBatch, Section, built, key_fields, sections

ZSTD = 4
KEYS = (b"", b"BTCUSDT", b"k" * 63, b"k" * 64, b"k" * 200)
PRODUCER = (7_000_000_000, 3, 2**31 - 1)

values = st.binary(max_size=70) | st.sampled_from([63, 64, 127, 128, 8_191, 8_192]).map(bytes)
rows = st.lists(st.tuples(st.integers(0, len(KEYS) - 1), values), min_size=1, max_size=30)


@given(st.lists(rows, min_size=1, max_size=4))
def test_a_batch_reads_as_the_one_that_is_filled_by_record(
    partitions: list[list[tuple[int, bytes]]],
) -> None:
    """Offsets, keys, values, checksum, and what the producer says of itself."""
    for records, section in zip(partitions, made(partitions), strict=True):
        ours = read(built(section, PRODUCER, now_ms=5))
        theirs = read(filled(records))
        assert [(r.offset, r.key, r.value, r.headers) for r in ours] == [
            (r.offset, r.key, r.value, r.headers) for r in theirs
        ]
        assert (ours.producer_id, ours.producer_epoch, ours.base_sequence) == PRODUCER
        assert (ours.next_offset, ours.first_timestamp, ours.max_timestamp) == (len(records), 5, 5)


def test_many_records_are_numbered_through() -> None:
    """Beyond one byte's and two bytes' worth of numbers."""
    (section,) = made([[(1, b"v")] * 10_000])
    assert [r.offset for r in read(built(section, PRODUCER, now_ms=5))] == list(range(10_000))


def test_what_is_too_long_is_left_to_the_other_way() -> None:
    """A long value, and more records than can be numbered."""
    assert attempted([[(1, bytes(2**14 - 8))]]) is None
    assert attempted([[(1, bytes(2**14))]]) is None
    assert attempted([[(1, b"")] * (2**14 + 1)]) is None


def test_it_is_built_once_with_what_the_producer_said() -> None:
    """A batch that is sent again is the same, its numbers too."""
    (section,) = made([[(1, b"a"), (2, b"b")]])
    batch = ReadyBatch(section)
    batch._set_producer_state(9, 1, 40)
    first = batch._build()
    batch._set_producer_state(10, 1, 50)
    assert batch._build() is first
    assert batch.size() == len(first)
    assert (batch.record_count(), batch.closed()) == (2, True)
    assert read(first).base_sequence == 40


def made(partitions: list[list[tuple[int, bytes]]]) -> list[Section]:
    found = attempted(partitions)
    assert found is not None
    return found


def attempted(partitions: list[list[tuple[int, bytes]]]) -> list[Section] | None:
    records = [record for part in partitions for record in part]
    starts = [0]
    for part in partitions:
        starts.append(starts[-1] + len(part))
    assert all(start < end for start, end in pairwise(starts))
    keys = key_fields(KEYS).take(pa.array([key for key, _ in records]))
    return sections(keys, pa.array([value for _, value in records], pa.binary()), starts)


def filled(records: list[tuple[int, bytes]]) -> bytes:
    batch = BatchBuilder(10**6, ZSTD)
    for key, value in records:
        assert batch.append(timestamp=5, key=KEYS[key], value=value) is not None
    return bytes(batch._build())


def read(data: bytes):  # type: ignore[no-untyped-def]
    found = MemoryRecords(data)
    batch = found.next_batch()
    assert batch.validate_crc()
    assert found.next_batch() is None
    return batch
