"""WebSocket frames, split out of what a socket read brought. Pure.

A market feed is small, whole, unmasked text frames, thousands a second. Those are found here in
0.1 us each; websockets' own parser takes 4.9 us (measured), which is more than all the rest that
becomes of a trade. Anything else is left to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.ingestor.parsing.texts import Texts, joined

# FIN set, no extension bits: https://www.rfc-editor.org/rfc/rfc6455#section-5.2
_WHOLE_TEXT = 0x81
_CONTROLS = (0x88, 0x89, 0x8A)
_TWO_BYTE_LENGTH = 126
_HEAD_BYTES = 4
# Below it the fixed cost of looking at all at once is more than that of one by one.
_MANY_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True)
class Split:
    """What a read held.

    `others` are whole control frames. `plain` is False once a frame came that is not for us: then
    `rest` begins with it, and everything from there on belongs to the full parser.
    """

    texts: Sequence[bytes]
    others: list[bytes]
    rest: bytes
    plain: bool


def split(data: bytes) -> Split:
    """Cut `data`, which begins at a frame's first byte; an unfinished frame is `rest`.

    Whole texts with a two-byte length, all there is but for a ping now and then, are found at
    once; from the first frame that is none of them on, and in a small read, one by one.
    """
    if len(data) < _MANY_BYTES:
        return _split_one_by_one(data)
    leading = _leading_texts(data)
    read = len(leading.data)
    if read == len(data):
        return Split(leading, [], b"", plain=True)
    found = _split_one_by_one(data[read:])
    return replace(found, texts=joined([leading, found.texts]))


def _leading_texts(data: bytes) -> Texts:
    """Find the whole two-byte-length texts that `data` begins with.

    What looks like a frame's beginning is one where the frame before it ends.
    """
    octets = np.frombuffer(data, np.uint8)
    heads = np.flatnonzero((octets[:-3] == _WHOLE_TEXT) & (octets[1:-2] == _TWO_BYTE_LENGTH))
    starts = heads + _HEAD_BYTES
    lengths = octets[heads + 2].astype(np.int64) << 8 | octets[heads + 3]
    ends = starts + lengths
    due = np.concatenate([[0], ends])[: len(heads)]
    odd = np.flatnonzero((heads != due) | (ends > len(data)))
    count = int(odd[0]) if len(odd) else len(heads)
    read = int(ends[count - 1]) if count else 0
    return Texts(data[:read], starts[:count], ends[:count])


def _split_one_by_one(data: bytes) -> Split:
    texts: list[bytes] = []
    others: list[bytes] = []
    position, size = 0, len(data)
    while size - position >= 2:
        kind, length = data[position], data[position + 1]
        start = position + 2
        if kind == _WHOLE_TEXT and length == _TWO_BYTE_LENGTH:
            if size < start + 2:
                break
            length = data[start] << 8 | data[start + 1]
            start += 2
        elif length >= _TWO_BYTE_LENGTH or (kind != _WHOLE_TEXT and kind not in _CONTROLS):
            return Split(texts, others, data[position:], plain=False)
        end = start + length
        if end > size:
            break
        if kind == _WHOLE_TEXT:
            texts.append(data[start:end])
        else:
            others.append(data[position:end])
        position = end
    return Split(texts, others, data[position:], plain=True)
