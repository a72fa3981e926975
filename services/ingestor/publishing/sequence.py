"""The sequence check of a burst: each symbol's ids against what is known of that symbol. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from services.ingestor.parsing.columns import Bools, TradeColumns, run_bounds
from services.ingestor.publishing.symbol_sequence import Step, SymbolSequence


@dataclass(slots=True)
class Verdict:
    """What a burst brought; `drop` holds the rows another connection had carried already.

    `begins`: a symbol of which nothing was known has its first trades in it.
    """

    drop: list[int] = field(default_factory=list)
    begins: bool = False
    steps: dict[Step, int] = field(default_factory=dict)

    def count(self, step: Step, row: int) -> None:
        self.steps[step] = self.steps.get(step, 0) + 1
        if step is Step.OVERLAP:
            self.drop.append(row)

    def kept(self, rows: int) -> Bools:
        keep = np.ones(rows, np.bool_)
        keep[self.drop] = False
        return keep


class SequenceCheck:
    """All symbols' states, by code."""

    def __init__(self, symbols: int) -> None:
        self.by_code = [SymbolSequence() for _ in range(symbols)]

    def check(self, columns: TradeColumns, connection: int) -> Verdict:
        """Take a burst; a symbol whose ids simply go on costs one comparison, not one a trade."""
        verdict = Verdict()
        if not len(columns):
            return verdict
        order = np.argsort(columns.codes, kind="stable")
        for code, rows, first, last, contiguous in _runs(columns, order):
            state = self.by_code[code]
            verdict.begins |= state.newest is None
            state.received_us = int(columns.received_us[rows[-1]])
            newest_us = int(columns.times_us[rows].max())
            if not (contiguous and state.run(first, last, newest_us, connection)):
                self._step_through(state, columns, rows, connection, verdict)
        return verdict

    def opened(self, codes: Iterable[int], connection: int, now_s: float) -> None:
        """Mark the symbols that a new connection should carry and has not brought yet."""
        for code in codes:
            self.by_code[code].opened(connection, now_s)

    def forget(self, connection: int) -> None:
        """Free what is kept of a connection that is closed and drained."""
        for state in self.by_code:
            state.forget(connection)

    def _step_through(
        self,
        state: SymbolSequence,
        columns: TradeColumns,
        rows: npt.NDArray[np.intp],
        connection: int,
        verdict: Verdict,
    ) -> None:
        ids, times, received = (
            values[rows].tolist() for values in (columns.ids, columns.times_us, columns.received_us)
        )
        for row, id_, time_us, received_us in zip(rows.tolist(), ids, times, received, strict=True):
            verdict.count(state.step(id_, time_us, received_us, connection), row)


def _runs(
    columns: TradeColumns, order: npt.NDArray[np.intp]
) -> Iterator[tuple[int, npt.NDArray[np.intp], int, int, bool]]:
    """Yield (code, rows, first id, last id, whether ids rise by one) for each symbol."""
    codes, ids = columns.codes[order], columns.ids[order]
    jumps = np.zeros(len(ids), np.int64)
    np.cumsum(np.diff(ids) != 1, out=jumps[1:])
    for start, end in pairwise(run_bounds(codes)):
        contiguous = bool(jumps[end - 1] == jumps[start])
        yield int(codes[start]), order[start:end], int(ids[start]), int(ids[end - 1]), contiguous
