"""Records on their way to Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from libs.kafka.send import Header


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition, in order; `headers` is one list a record, or empty for none.

    `ids` are those of the trades, None where they are no trades.
    """

    topic: str
    partition: int
    keys: Sequence[bytes]
    values: Sequence[bytes]
    headers: Sequence[Sequence[Header]] = ()
    ids: npt.NDArray[np.int64] | None = None

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
        )
