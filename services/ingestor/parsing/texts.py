"""Messages of one connection, all in one buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Texts(Sequence[bytes]):
    """Message i is data[starts[i]:ends[i]]; they follow each other, with anything between."""

    data: bytes
    starts: Int64s
    ends: Int64s

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(row, slice):
            return Texts(self.data, self.starts[row], self.ends[row])
        return self.data[self.starts[row] : self.ends[row]]

    def __iter__(self) -> Iterator[bytes]:
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield self.data[start:end]

    @property
    def size_bytes(self) -> int:
        return int((self.ends - self.starts).sum())

    @property
    def longest_bytes(self) -> int:
        return int((self.ends - self.starts).max(initial=0))

    @staticmethod
    def of(messages: Sequence[bytes]) -> Texts:
        """Put messages into one buffer."""
        if isinstance(messages, Texts):
            return messages
        lengths = np.fromiter(map(len, messages), np.int64, len(messages))
        ends = np.cumsum(lengths)
        return Texts(b"".join(messages), ends - lengths, ends)


def size_bytes(messages: Sequence[bytes]) -> int:
    return messages.size_bytes if isinstance(messages, Texts) else sum(map(len, messages))


def joined(parts: Sequence[Sequence[bytes]]) -> Sequence[bytes]:
    """Put parts behind each other: few in a list, in one buffer where one is in a buffer."""
    filled = [part for part in parts if len(part)]
    if len(filled) == 1:
        return filled[0]
    if not any(isinstance(part, Texts) for part in filled):
        return [message for part in filled for message in part]
    buffers = [Texts.of(part) for part in filled]
    before = np.cumsum([0, *(len(one.data) for one in buffers)])[:-1].tolist()
    return Texts(
        b"".join(one.data for one in buffers),
        _shifted([one.starts for one in buffers], before),
        _shifted([one.ends for one in buffers], before),
    )


def _shifted(places: Sequence[Int64s], by: Sequence[int]) -> Int64s:
    moved = [part + offset for part, offset in zip(places, by, strict=True)]
    return np.concatenate(moved)
