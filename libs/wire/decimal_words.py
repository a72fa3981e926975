"""Decimals as numpy sees them: 128-bit whole numbers, two words each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

UInt64s = npt.NDArray[np.uint64]


def words_of(numbers: pa.Array) -> UInt64s:
    """View a decimal128 array as rows of (low, high) words; a null has any."""
    words = np.frombuffer(numbers.buffers()[1], np.uint64).reshape(-1, 2)
    return words[numbers.offset : numbers.offset + len(numbers)]


def decimals_of(words: UInt64s, kind: pa.DataType) -> pa.Array:
    """View rows of (low, high) words as a decimal128 array of this type."""
    return pa.Array.from_buffers(kind, len(words), [None, pa.py_buffer(words)])
