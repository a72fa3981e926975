"""The order of rows in files: which file each row goes to, and where its row groups begin. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.lake.commits.seam import TopicPartition
from libs.market.bucket import bucket_of
from libs.market.trade import DAY_US

# Above this many possible groups a lookup table costs more than sorting the keys.
WIDEST_LOOKUP = 1 << 22
WIDEST_SPAN = 1 << 31
WIDEST_KEY = 1 << 62

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SymbolRun:
    """Rows [start, stop) of the sorted table: one symbol's, in one file."""

    symbol: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class FilePart:
    """What goes into one data file: one Kafka partition's rows of one day and bucket."""

    position: TopicPartition
    day: int
    bucket: int
    runs: tuple[SymbolRun, ...]

    @property
    def start(self) -> int:
        return self.runs[0].start

    @property
    def stop(self) -> int:
        return self.runs[-1].stop


@dataclass(frozen=True, slots=True)
class Coded:
    """A column as codes into its distinct values."""

    codes: Ints
    values: list[str]


def arrange(rows: pa.Table) -> tuple[Ints, list[FilePart]]:
    """Return the sorting permutation, and the files its runs make up.

    Files hold one (topic, partition, bucket, day) each, sorted by (symbol, timestamp, offset).
    """
    topic, symbol = coded(rows["kafka_topic"]), coded(rows["symbol"])
    partition = ints(rows["kafka_partition"])
    timestamp = ints(rows["timestamp"])
    day = timestamp // DAY_US
    bucket = np.array([bucket_of(value) for value in symbol.values], dtype=np.int64)[symbol.codes]
    group = dense([topic.codes, partition, bucket, day, symbol.codes])
    order = sort_order(group, timestamp, ints(rows["kafka_offset"]))
    starts = run_starts(group[order])
    first = order[starts]
    keys = zip(
        topic.codes[first].tolist(),
        partition[first].tolist(),
        bucket[first].tolist(),
        day[first].tolist(),
        symbol.codes[first].tolist(),
        starts.tolist(),
        [*starts[1:].tolist(), len(order)],
        strict=True,
    )
    files: dict[tuple[int, int, int, int], list[SymbolRun]] = {}
    for of_topic, of_partition, of_bucket, of_day, of_symbol, start, stop in keys:
        runs = files.setdefault((of_topic, of_partition, of_bucket, of_day), [])
        runs.append(SymbolRun(symbol.values[of_symbol], start, stop))
    return order, [
        FilePart(TopicPartition(topic.values[t], p), d, b, tuple(runs))
        for (t, p, b, d), runs in files.items()
    ]


def coded(column: pa.ChunkedArray) -> Coded:
    """Encode a text column so that codes sort as their values do."""
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    by_value = sorted(range(len(values)), key=values.__getitem__)
    rank = np.empty(len(values), dtype=np.int64)
    rank[by_value] = np.arange(len(values))
    return Coded(rank[encoded.indices.to_numpy()], sorted(values))


def ints(column: pa.ChunkedArray) -> Ints:
    array = column.combine_chunks()
    if pa.types.is_timestamp(array.type):
        array = array.view(pa.int64())
    return np.asarray(pc.cast(array, pa.int64()).to_numpy())


def dense(keys: list[Ints]) -> Ints:
    """Number the distinct combinations of keys from 0, in the order of their tuples."""
    combined, width = np.zeros(len(keys[0]), dtype=np.int64), 1
    for key in map(from_zero, keys):
        span = int(key.max()) + 1
        if width * span > WIDEST_KEY:
            combined = ranks(combined)
            width = int(combined.max()) + 1
        combined = combined * span + key
        width *= span
    return ranks(combined) if width > WIDEST_LOOKUP else ranks_by_lookup(combined, width)


def from_zero(key: Ints) -> Ints:
    low, high = int(key.min()), int(key.max())
    return key - low if high - low < WIDEST_SPAN else ranks(key)


def ranks(keys: Ints) -> Ints:
    return np.asarray(np.unique(keys, return_inverse=True)[1])


def ranks_by_lookup(keys: Ints, width: int) -> Ints:
    """As `ranks`, without a sort, for keys below `width`."""
    present = np.zeros(width, dtype=bool)
    present[keys] = True
    return np.asarray((np.cumsum(present) - 1)[keys])


def sort_order(group: Ints, timestamp: Ints, offset: Ints) -> Ints:
    """Return the permutation that sorts by (group, timestamp, offset).

    Rows come in offset order nearly always, and nearly in time order: stable sorts of one key at
    a time, the groups' by radix, take a third of what one sort of all keys does.
    """
    by_time = np.argsort(timestamp, kind="stable")
    narrow = group.astype(np.uint16) if group.max() < 1 << 16 else group
    order = by_time[np.argsort(narrow[by_time], kind="stable")]
    tied = (np.diff(group[order]) == 0) & (np.diff(timestamp[order]) == 0)
    if (np.diff(offset[order])[tied] < 0).any():
        return np.lexsort((offset, timestamp, group))
    return np.asarray(order)


def run_starts(group: Ints) -> Ints:
    return np.concatenate(([0], np.flatnonzero(np.diff(group)) + 1))
