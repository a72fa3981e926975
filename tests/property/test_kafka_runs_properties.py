"""Record batches cut into columns hold what aiokafka's own records hold."""

from __future__ import annotations

from itertools import accumulate, pairwise

import cramjam
import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.kafka import record_columns
from libs.kafka.record_batches import HEADER, cut
from libs.kafka.record_columns import (
    Bodies,
    Records,
    records_by_column,
    records_natively,
    records_of,
)
from libs.kafka.record_starts import abreast, one_by_one
from libs.kafka.runs import RECORDS_A_RUN, RECORDS_AT_ONCE, FetchedBatches, PartitionRuns

texts = st.none() | st.binary(max_size=40) | st.integers(100, 20_000).map(lambda n: b"v" * n)
records = st.lists(st.tuples(st.none() | st.binary(max_size=9), texts), min_size=1, max_size=30)

RECORDS_AT = HEADER.size
ATTRIBUTES_AT = 22
CONTROL = 0x20


def batch_of(
    pairs: list[tuple[bytes | None, bytes | None]],
    *,
    compression: int = 0,
    base: int = 0,
    producer: int | None = None,
) -> bytes:
    """Build a batch; of a `producer`, as part of its transaction."""
    whose = (0, -1, -1) if producer is None else (1, producer, 0)
    builder = DefaultRecordBatchBuilder(2, compression, *whose, 0, 1 << 30)
    for delta, (key, value) in enumerate(pairs):
        builder.append(delta, 1_700_000_000_000 + 70 * delta, key, value, [("h", b"x")])
    built = bytearray(builder.build())
    built[0:8] = base.to_bytes(8, "big")
    return bytes(built)


@given(records, st.sampled_from([0, 1, 2, 3, 4]), st.integers(0, 2**40))
def test_a_batch_is_cut_as_aiokafka_reads_it(
    pairs: list[tuple[bytes | None, bytes | None]], compression: int, base: int
) -> None:
    """Every codec; null, empty, short and long values; keys or none."""
    batch = batch_of(pairs, compression=compression, base=base)
    found = cut(batch)
    theirs = list(MemoryRecords(batch).next_batch())
    assert found.offsets.tolist() == [record.offset for record in theirs]
    assert found.values.to_pylist() == [record.value for record in theirs]
    assert found.keys.array().to_pylist() == [record.key for record in theirs]
    found.values.validate(full=True)
    found.keys.array().validate(full=True)


@given(st.lists(st.tuples(records, st.sampled_from([0, 3, 4])), min_size=1, max_size=4))
def test_batches_cut_together_are_the_batches_cut_alone(
    batches: list[tuple[list[tuple[bytes | None, bytes | None]], int]],
) -> None:
    """Each has a codec and a first offset of its own, with holes between them."""
    built = [
        batch_of(pairs, compression=compression, base=1_000 * number)
        for number, (pairs, compression) in enumerate(batches)
    ]
    together = cut(*built)
    alone = [told(cut(batch)) for batch in built]
    assert told(together) == [record for found in alone for record in found]
    together.values.validate(full=True)


def told(found: Records) -> list[tuple[int, bytes | None, bytes | None]]:
    columns = (found.offsets.tolist(), found.keys.array().to_pylist(), found.values.to_pylist())
    return list(zip(*columns, strict=True))


@given(st.lists(records, min_size=1, max_size=4), st.integers(0, 2**40))
def test_both_ways_of_finding_records_find_the_same(
    batches: list[list[tuple[bytes | None, bytes | None]]], base: int
) -> None:
    """In one native loop, where that is compiled, and a field of all records at a time."""
    bodies = [batch_of(pairs)[RECORDS_AT:] for pairs in batches]
    begins = list(accumulate(map(len, bodies), initial=0))[:-1]
    bases = [base + 1_000 * number for number in range(len(batches))]
    side_by_side = Bodies(bytearray(b"".join(bodies)), begins, list(map(len, batches)), bases)
    by_column = records_by_column(side_by_side)

    by_column.values.validate(full=True)
    assert told(records_natively(side_by_side) or by_column) == told(by_column)


@given(st.binary(max_size=40), st.integers(1, 3))
def test_what_is_no_record_is_not_found_natively(body: bytes, count: int) -> None:
    """Whatever the bytes are nothing outside them is read, and the other way is left to say it."""
    found = records_natively(Bodies(bytearray(body), [0], [count], [0]))
    assert found is None or len(found.offsets) == count
    if found is not None:
        found.values.validate(full=True)
        found.keys.array().validate(full=True)


@pytest.mark.parametrize("counts", [[39, -30], [2**31 - 1], [8, 33]])
def test_counts_that_lie_are_refused_before_anything_is_read(counts: list[int]) -> None:
    """Negative, or of more records than there are bytes for: by either way."""
    record = bytes([12, 0, 0, 0, 1, 1, 0])
    begins = [0, 39 * len(record)][: len(counts)]
    lying = Bodies(bytearray(record * 40), begins, counts, [0] * len(counts))

    assert records_natively(lying) is None
    with pytest.raises(IndexError):
        records_of(lying)


@pytest.mark.parametrize("record", [[12, 0, 0, 0, 40, 1, 0], [12, 0, 0, 0, 1, 40, 0]])
def test_keys_and_values_longer_than_their_record_are_not_found(record: list[int]) -> None:
    """Also where there are bytes enough behind it."""
    body = bytearray(bytes(record) + b"v" * 60)

    assert records_natively(Bodies(body, [0], [1], [0])) is None


def test_more_bytes_than_views_can_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value's place would be a wrong one, wherever that is."""
    monkeypatch.setattr(record_columns, "MOST_BODY_BYTES", 6)
    body = Bodies(bytearray([12, 0, 0, 0, 1, 1, 0]), [0], [1], [0])

    assert records_natively(body) is None
    with pytest.raises(IndexError):
        records_of(body)


def test_batch_of_two_frames_is_cut_as_aiokafka_reads_it() -> None:
    """Only the first frame was asked how large it is."""
    batch = batch_of([(None, b"v" * 90), (b"k", b"w" * 300)])
    plain, records = batch[:RECORDS_AT], batch[RECORDS_AT:]
    frames = b"".join(bytes(cramjam.zstd.compress(each)) for each in (records[:99], records[99:]))
    zstd = bytearray(plain + frames)
    zstd[8:12] = (len(zstd) - 12).to_bytes(4, "big")
    zstd[22] |= 4
    found = cut(bytes(zstd))
    assert found.offsets.tolist() == [0, 1]
    assert found.values.to_pylist() == [b"v" * 90, b"w" * 300]


lengths = st.lists(st.sampled_from([7, 20, 63, 64, 200, 8_191, 8_192]), min_size=1, max_size=6)


@given(st.lists(lengths, min_size=1, max_size=8))
def test_walking_abreast_ends_where_walking_one_by_one_does(batches: list[list[int]]) -> None:
    """Lengths of one, two and three bytes, in batches of different sizes."""
    bodies = [b"".join(length_prefix(length) + b"x" * length for length in one) for one in batches]
    body = b"".join(bodies)
    begins = list(accumulate(map(len, bodies), initial=0))[:-1]
    counts = list(map(len, batches))
    expected = one_by_one(body, begins, counts)
    assert abreast(body, np.array(begins), np.array(counts)).tolist() == expected.tolist()


def length_prefix(length: int) -> bytes:
    """Write a record's length as Kafka does: zigzag, seven bits a byte."""
    left, octets = length << 1, []
    while left >= 0x80:
        octets.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*octets, left])


def test_many_small_batches_are_read_as_aiokafka_reads_them() -> None:
    """So many that they are walked abreast, and opened in two goes."""
    sizes = [150 + 7 * (number % 5) for number in range(240)]
    ends = list(accumulate(sizes, initial=0))
    batches = b"".join(
        batch_of([(b"k", b"%d" % n * 20) for n in range(start, end)], compression=4, base=start)
        for start, end in pairwise(ends)
    )
    runs = list(PartitionRuns(("t", 0), FetchedBatches(batches), [], 5, None, None, True, 1))
    assert [run.start for run in runs] == [5, *(run.following for run in runs[:-1])]
    assert runs[-1].following == ends[-1] > RECORDS_AT_ONCE
    assert np.concatenate([run.offsets for run in runs]).tolist() == list(range(5, ends[-1]))
    values = [value for run in runs for value in run.values.to_pylist()]
    assert values == [b"%d" % n * 20 for n in range(5, ends[-1])]


def marker(producer: int, base: int, *, commits: bool) -> bytes:
    """Write the end of a transaction as the broker does."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, -1, 1 << 30)
    builder.append(0, 1_700_000_000_000, bytes([0, 0, 0, commits]), b"", [])
    built = bytearray(builder.build())
    built[0:8] = base.to_bytes(8, "big")
    built[ATTRIBUTES_AT] |= CONTROL
    return bytes(built)


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=6))
def test_markers_and_aborted_records_are_covered_and_not_delivered(
    transactions: list[tuple[int, bool]],
) -> None:
    """The last run covers those after it too: the position does not stay below what is read."""
    batches, kept, aborted, end = b"", list[int](), list[tuple[int, int]](), 0
    for producer, (size, commits) in enumerate(transactions):
        batches += batch_of([(b"k", b"v")] * size, base=end, producer=producer)
        batches += marker(producer, end + size, commits=commits)
        kept += range(end, end + size) if commits else []
        aborted += [] if commits else [(producer, end)]
        end += size + 1
    read = PartitionRuns(("t", 0), FetchedBatches(batches), aborted, 0, None, None, False, 1)
    runs = list(read)
    assert [offset for run in runs for offset in run.offsets.tolist()] == kept
    assert read.next_fetch_offset == end
    assert [(run.start, run.following) for run in runs] == ([(0, end)] if kept else [])


@settings(max_examples=20)
@given(
    st.lists(
        st.sampled_from([1, 2, 100, RECORDS_A_RUN - 1, RECORDS_A_RUN]), min_size=1, max_size=6
    ),
    st.data(),
)
def test_runs_cover_every_position_from_where_was_asked(
    sizes: list[int], data: st.DataObject
) -> None:
    """In a chain, each record once, whether batches are small or a run by themselves."""
    batches, end = b"", 0
    for size in sizes:
        batches += batch_of(
            [(b"k%d" % (end + n), b"%d" % (end + n)) for n in range(size)], base=end
        )
        end += size
    asked = data.draw(st.integers(0, sizes[0] - 1))
    runs = list(PartitionRuns(("t", 0), FetchedBatches(batches), [], asked, None, None, True, 1))
    assert [run.start for run in runs] == [asked, *(run.following for run in runs[:-1])]
    assert runs[-1].following == end
    assert [offset for run in runs for offset in run.offsets.tolist()] == list(range(asked, end))
    assert [value for run in runs for value in run.values.to_pylist()] == [
        b"%d" % n for n in range(asked, end)
    ]
    assert [key for run in runs for key in run.keys.array().to_pylist()] == [
        b"k%d" % n for n in range(asked, end)
    ]
    stored_bytes = sum(run.stored_bytes for run in runs)
    assert stored_bytes == len(batches) if asked == 0 else stored_bytes < len(batches)
    assert {run.appended_ms for run in runs} <= {
        1_700_000_000_000 + 70 * (size - 1) for size in sizes
    }
