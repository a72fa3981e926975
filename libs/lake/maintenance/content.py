"""What rows hold, as a few numbers that do not depend on their order: the proof of a rewrite.

Each value is hashed by its column's name, a row's hash mixes its columns', and the content of many
rows is the sum of theirs: computed column by column, batch by batch, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from libs.market.errors import CorruptError

Hashes = npt.NDArray[np.uint64]

MASK = (1 << 64) - 1
NULL = np.uint64(0x6E75_6C6C_0000_0001)
GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)
AGAIN = np.uint64(0xD6E8_FEB8_6659_FD93)
BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Content:
    """The number of rows and two sums of their hashes: errors that cancel in one do not in both."""

    rows: int = 0
    hashed: int = 0
    again: int = 0

    def __add__(self, other: Content) -> Content:
        return Content(
            self.rows + other.rows,
            (self.hashed + other.hashed) & MASK,
            (self.again + other.again) & MASK,
        )


def content_of(rows: pa.Table | pa.RecordBatch) -> Content:
    """Return the content of all columns; the order of rows and of columns does not matter."""
    table = pa.table(rows) if isinstance(rows, pa.RecordBatch) else rows
    found = Content()
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        found += batch_content(batch)
    return found


def batch_content(batch: pa.RecordBatch) -> Content:
    hashes = np.zeros(batch.num_rows, np.uint64)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        hashes += mixed(value_hashes(column) + salt(name))
    hashes = mixed(hashes)
    again = mixed(hashes ^ AGAIN)
    return Content(batch.num_rows, total(hashes), total(again))


def total(hashes: Hashes) -> int:
    return int(hashes.sum(dtype=np.uint64))


def salt(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little"))


def mixed(hashes: Hashes) -> Hashes:
    """Scatter each number over all 64 bits (the finaliser of splitmix64)."""
    scattered = hashes + GOLDEN
    scattered = (scattered ^ (scattered >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    scattered = (scattered ^ (scattered >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return scattered ^ (scattered >> np.uint64(31))


def value_hashes(array: pa.Array) -> Hashes:
    """Hash each value of a column, nulls as one value of their own."""
    hashes = non_null_hashes(array)
    if not array.null_count:
        return hashes
    return np.where(array.is_null().to_numpy(zero_copy_only=False), NULL, hashes)


def non_null_hashes(array: pa.Array) -> Hashes:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return coded_hashes(array)
    if pa.types.is_map(kind):
        pairs = mixed(value_hashes(array.keys)) + value_hashes(array.items)
        return segment_hashes(pairs, bounds(array))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return segment_hashes(value_hashes(array.values), bounds(array))
    if is_text(kind):
        # Most texts repeat: hashing each once takes a tenth of the time.
        return coded_hashes(array.dictionary_encode())
    return fixed_hashes(array)


def is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_large_binary(kind)
    )


def coded_hashes(array: pa.DictionaryArray) -> Hashes:
    held = array.dictionary
    values = np.append(text_hashes(held) if is_text(held.type) else value_hashes(held), NULL)
    codes = array.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(values[codes])


def text_hashes(array: pa.Array) -> Hashes:
    data = array.buffers()[2]
    if data is None:
        return segment_hashes(np.zeros(0, np.uint64), np.zeros(len(array) + 1, np.int64))
    within = bounds(array)
    return segment_hashes(np.frombuffer(data, np.uint8), within)


def bounds(array: pa.Array) -> npt.NDArray[np.int64]:
    """Return where each value of a text or list begins, and where the last one ends."""
    kind = array.type
    large = pa.types.is_large_list(kind) or pa.types.is_large_string(kind)
    width = np.int64 if large or pa.types.is_large_binary(kind) else np.int32
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array) + 1, np.int64)
    every = np.frombuffer(buffer, width)
    return every[array.offset : array.offset + len(array) + 1].astype(np.int64)


def segment_hashes(items: npt.NDArray[np.uint8] | Hashes, ends: npt.NDArray[np.int64]) -> Hashes:
    """Hash stretches of items: a sum of each item times a number that only its place decides."""
    lengths = np.diff(ends)
    used = items[ends[0] : ends[-1]].astype(np.uint64)
    places = np.arange(len(used)) - np.repeat(ends[:-1] - ends[0], lengths)
    weights = mixed(np.arange(int(lengths.max(initial=0)), dtype=np.uint64)) | np.uint64(1)
    running = np.concatenate(
        (np.zeros(1, np.uint64), np.cumsum((used + np.uint64(1)) * weights[places]))
    )
    at = ends - ends[0]
    return mixed(running[at[1:]] - running[at[:-1]] + mixed(lengths.astype(np.uint64)))


def fixed_hashes(array: pa.Array) -> Hashes:
    """Hash values of a fixed width, such as numbers, times and decimals."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    width = array.type.bit_width // 8
    start, stop = array.offset * width, (array.offset + len(array)) * width
    buffer = array.buffers()[1]
    held = np.frombuffer(buffer, np.uint8)[start:stop] if buffer is not None else np.zeros(0)
    if width not in (1, 2, 4) and width % 8:
        raise CorruptError(f"no content hash for columns of {array.type}")
    words = held.view(f"<u{min(width, 8)}").astype(np.uint64).reshape(len(array), -1)
    hashes = np.zeros(len(array), np.uint64)
    for word in words.T:
        hashes = mixed(hashes ^ word)
    return hashes
