"""Messages and WebSocket frames as Arrow columns: text is built without a Python object a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tools.simulator.chunk import Form
from tools.simulator.draws import Bools, Int64s
from tools.simulator.instruments import DECIMALS

# A column, or the same bytes in every row.
Piece: TypeAlias = "pa.BinaryArray | bytes"
_FINAL_TEXT = 0x81
_SHORT, _MEDIUM = 126, 1 << 16


def decimal_text(units: Int64s) -> pa.StringArray:
    """Print whole numbers of 1e-8 with all eight decimals, as the exchange does."""
    whole, part = np.divmod(units, 10**DECIMALS)
    high, low = np.divmod(part, 10_000)
    return pc.binary_join_element_wise(
        pa.array(whole).cast(pa.string()),
        ".",
        _FOUR_DIGITS.take(pa.array(high)),
        _FOUR_DIGITS.take(pa.array(low)),
        "",
    )


def integer_text(numbers: Int64s) -> pa.BinaryArray:
    return pa.array(numbers).cast(pa.string()).cast(pa.binary())


def stamps(times_us: Int64s, form: Form) -> pa.BinaryArray:
    return integer_text(times_us if form.time_unit == "us" else times_us // 1_000)


def choice(options: Sequence[bytes], index: Int64s | Bools) -> pa.BinaryArray:
    """Return options[index] for each index."""
    return pa.array(options, pa.binary()).take(pa.array(index.astype(np.int32)))


def joined(*pieces: Piece) -> pa.BinaryArray:
    """Concatenate the pieces row by row."""
    scalars = [pa.scalar(p, pa.binary()) if isinstance(p, bytes) else p for p in pieces]
    return pc.binary_join_element_wise(*scalars, pa.scalar(b"", pa.binary()))


def wrapped(stream: Sequence[str], form: Form, raw: Sequence[bytes]) -> list[bytes]:
    """Put the combined stream's opening before each message's own, where the form wants it."""
    if not form.combined:
        return list(raw)
    return [b'{"stream":"%s","data":%s' % (s.encode(), r) for s, r in zip(stream, raw, strict=True)]


def framed(messages: pa.BinaryArray) -> pa.BinaryArray:
    """Put each message into one unmasked WebSocket text frame (RFC 6455, section 5.2)."""
    lengths = pc.binary_length(messages).to_numpy(zero_copy_only=False)
    return joined(_headers(lengths), messages)


def _headers(lengths: npt.NDArray[np.int32]) -> pa.BinaryArray:
    size = np.where(lengths < _SHORT, 2, np.where(lengths < _MEDIUM, 4, 10))
    ends = np.cumsum(size, dtype=np.int32)
    data = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    starts = ends - size
    data[starts] = _FINAL_TEXT
    data[starts + 1] = np.where(size == 2, lengths, np.where(size == 4, 126, 127))
    for back in range(1, 5):
        rows = size >= (4 if back <= 2 else 10)
        data[ends[rows] - back] = lengths[rows] >> (8 * (back - 1)) & 0xFF
    offsets = np.concatenate([np.zeros(1, np.int32), ends]).astype(np.int32)
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def frame(message: bytes) -> bytes:
    """Put one message into an unmasked WebSocket text frame."""
    framed_one: bytes = framed(pa.array([message], pa.binary()))[0].as_py()
    return framed_one


def spans(frames: pa.BinaryArray) -> tuple[memoryview, npt.NDArray[np.int32]]:
    """Return the bytes of all frames as one, and where each begins and ends in them."""
    _, offsets, data = frames.buffers()
    starts = np.frombuffer(offsets, np.int32)[frames.offset : frames.offset + len(frames) + 1]
    return memoryview(data), starts


_FOUR_DIGITS = pa.array([f"{number:04d}" for number in range(10_000)])
