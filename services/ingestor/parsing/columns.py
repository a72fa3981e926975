"""A burst of trades as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# As milliseconds this is the year 5138, as microseconds March 1973: no trade is in doubt.
_FIRST_MICROSECONDS = 10**14


def as_us(stamps: Int64s) -> Int64s:
    """Read exchange stamps, milliseconds or microseconds since 1970, as microseconds.

    The magnitude tells which, not the configured unit: an exchange that ignores `timeUnit` would
    move every trade by a factor of a thousand.
    """
    return np.where(stamps < _FIRST_MICROSECONDS, stamps * 1000, stamps)


def run_bounds(values: npt.NDArray[np.int32]) -> list[int]:
    """Say where runs of equal values begin, and where the last one ends."""
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    return [0, *changes.tolist(), len(values)]


@dataclass(frozen=True, slots=True)
class TradeColumns:
    """Trades, one array a field, in the order they came; all arrays have the same length.

    `codes` number the symbols of a SymbolTable, -1 is one that is not in it. `event_times` are
    the exchange's own text, as they go into vendor_data untouched.
    """

    codes: npt.NDArray[np.int32]
    ids: Int64s
    id_texts: pa.StringArray
    prices: pa.StringArray
    quantities: pa.StringArray
    times_us: Int64s
    event_times: pa.StringArray
    sold: Bools
    best_match: Bools
    received_us: Int64s

    def __len__(self) -> int:
        return len(self.codes)

    @staticmethod
    def build(
        *,
        codes: Sequence[int],
        ids: Sequence[int],
        prices: Sequence[str],
        quantities: Sequence[str],
        times: Sequence[int],
        event_times: Sequence[int],
        sold: Sequence[bool],
        best_match: Sequence[bool],
        received_us: Int64s,
    ) -> TradeColumns:
        rows = len(codes)
        numbers = np.fromiter(ids, np.int64, rows)
        return TradeColumns(
            codes=np.fromiter(codes, np.int32, rows),
            ids=numbers,
            id_texts=pc.cast(pa.array(numbers), pa.string()),
            prices=pa.array(prices, pa.string()),
            quantities=pa.array(quantities, pa.string()),
            times_us=as_us(np.fromiter(times, np.int64, rows)),
            event_times=pc.cast(pa.array(event_times, pa.int64()), pa.string()),
            sold=np.fromiter(sold, np.bool_, rows),
            best_match=np.fromiter(best_match, np.bool_, rows),
            received_us=received_us,
        )

    @staticmethod
    def empty() -> TradeColumns:
        return TradeColumns.build(
            codes=(),
            ids=(),
            prices=(),
            quantities=(),
            times=(),
            event_times=(),
            sold=(),
            best_match=(),
            received_us=np.empty(0, np.int64),
        )

    def where(self, keep: Bools) -> TradeColumns:
        return self.take(np.flatnonzero(keep))

    def take(self, rows: npt.NDArray[np.intp]) -> TradeColumns:
        """Pick `rows`, in that order."""
        arrow_rows = pa.array(rows)
        picked = {
            column.name: pc.take(values, arrow_rows)
            if isinstance(values := getattr(self, column.name), pa.Array)
            else values[rows]
            for column in fields(self)
        }
        return TradeColumns(**picked)
