"""Records on their way to Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import numpy.typing as npt

from libs.kafka.ready import Section
from libs.kafka.send import Header


class Later(Sequence[bytes]):
    """So many bytes objects, made when somebody looks: mostly nobody does."""

    def __init__(self, rows: int, make: Callable[[], list[bytes]]) -> None:
        self._rows = rows
        self._make = make
        self._made: list[bytes] | None = None

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | Sequence[bytes]:
        return self._all()[row]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._all())

    def _all(self) -> list[bytes]:
        if self._made is None:
            self._made = self._make()
        return self._made


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition, in order; `headers` is one list a record, or empty for none.

    `ids` are those of the trades, None where they are no trades. `section` is the same as Kafka
    has it, without headers, where it was made so.
    """

    topic: str
    partition: int
    keys: Sequence[bytes]
    values: Sequence[bytes]
    headers: Sequence[Sequence[Header]] = ()
    ids: npt.NDArray[np.int64] | None = None
    section: Section | None = None

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, end: int | None = None) -> Records:
        cut = slice(start, end)
        return replace(
            self,
            keys=self.keys[cut],
            values=self.values[cut],
            headers=self.headers[cut],
            ids=None if self.ids is None else self.ids[cut],
            section=None,
        )
