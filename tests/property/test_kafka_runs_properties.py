"""Record batches cut into columns hold what aiokafka's own records hold."""

from __future__ import annotations

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.kafka.runs import RECORDS_A_RUN, FetchedBatches, PartitionRuns, cut

texts = st.none() | st.binary(max_size=40) | st.integers(100, 20_000).map(lambda n: b"v" * n)
records = st.lists(st.tuples(st.none() | st.binary(max_size=9), texts), min_size=1, max_size=30)

SIZES = (1, 2, 100, RECORDS_A_RUN - 1, RECORDS_A_RUN)


def batch_of(
    pairs: list[tuple[bytes | None, bytes | None]], *, compression: int = 0, base: int = 0
) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, 0, 1 << 30)
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
    offsets, values, keys = cut(batch)
    theirs = list(MemoryRecords(batch).next_batch())
    assert offsets.tolist() == [record.offset for record in theirs]
    assert values.to_pylist() == [record.value for record in theirs]
    assert keys.array().to_pylist() == [record.key for record in theirs]
    values.validate(full=True)
    keys.array().validate(full=True)


@given(st.lists(st.tuples(records, st.sampled_from([0, 3, 4])), min_size=1, max_size=4))
def test_batches_cut_together_are_the_batches_cut_alone(
    batches: list[tuple[list[tuple[bytes | None, bytes | None]], int]],
) -> None:
    """Each has a codec and a first offset of its own, with holes between them."""
    built = [
        batch_of(pairs, compression=compression, base=1_000 * number)
        for number, (pairs, compression) in enumerate(batches)
    ]
    offsets, values, keys = cut(*built)
    alone = [cut(batch) for batch in built]
    assert offsets.tolist() == [offset for found, _, _ in alone for offset in found.tolist()]
    assert values.to_pylist() == [value for _, found, _ in alone for value in found.to_pylist()]
    assert keys.array().to_pylist() == [k for _, _, one in alone for k in one.array().to_pylist()]
    values.validate(full=True)


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
