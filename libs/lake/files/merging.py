"""Sorted files merged into one sorted stream, a piece at a time.

Memory holds one batch of each file, whatever their size. In each round the batch that ends first
says how far all others may go: what lies up to its last row is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from libs.lake.files.arrange import Ints, coded, ints, run_starts, sort_order
from libs.market.errors import CorruptError


class Key(NamedTuple):
    """A row's place in a file."""

    symbol: str
    time_us: int
    offset: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A batch of a sorted file, with its symbols' runs and the columns that order it."""

    rows: pa.Table
    symbols: tuple[str, ...]
    bounds: Ints
    times_us: Ints
    offsets: Ints

    @property
    def last_key(self) -> Key:
        return Key(self.symbols[-1], int(self.times_us[-1]), int(self.offsets[-1]))

    @property
    def first_key(self) -> Key:
        return Key(self.symbols[0], int(self.times_us[0]), int(self.offsets[0]))

    def count_through(self, key: Key) -> int:
        """Return how many rows stand at or before a key."""
        run = int(np.searchsorted(np.array(self.symbols, dtype=object), key.symbol))
        if run == len(self.symbols) or self.symbols[run] != key.symbol:
            return int(self.bounds[run])
        start, stop = int(self.bounds[run]), int(self.bounds[run + 1])
        times = self.times_us[start:stop]
        before = int(np.searchsorted(times, key.time_us, "left"))
        through = int(np.searchsorted(times, key.time_us, "right"))
        tied = self.offsets[start + before : start + through]
        return start + before + int(np.searchsorted(tied, key.offset, "right"))


def piece_of(rows: pa.Table) -> Piece:
    symbol = coded(rows["symbol"])
    starts = run_starts(symbol.codes)
    return Piece(
        rows=rows,
        symbols=tuple(symbol.values[code] for code in symbol.codes[starts].tolist()),
        bounds=np.append(starts, rows.num_rows),
        times_us=ints(rows["timestamp"]),
        offsets=ints(rows["kafka_offset"]),
    )


def is_sorted(piece: Piece) -> bool:
    """Say whether rows stand by symbol, time and offset."""
    if any(a >= b for a, b in zip(piece.symbols, piece.symbols[1:], strict=False)):
        return False
    time_steps, offset_steps = np.diff(piece.times_us), np.diff(piece.offsets)
    within = np.ones(len(time_steps), dtype=bool)
    within[piece.bounds[1:-1] - 1] = False
    return not ((time_steps < 0) | ((time_steps == 0) & (offset_steps < 0)))[within].any()


class Cursor:
    """Reads one sorted file forward.

    Raises:
        CorruptError: the file is not sorted.
    """

    def __init__(self, name: str, batches: Iterator[pa.Table]) -> None:
        self._name = name
        self._batches = batches
        self._taken = 0
        self._piece = self._next_piece(None)

    @property
    def last_key(self) -> Key | None:
        """The last key at hand; None at the end of the file."""
        return self._piece.last_key if self._piece else None

    def take_through(self, key: Key) -> pa.Table | None:
        """Take the rows at hand up to a key, None where there are none."""
        if self._piece is None:
            return None
        stop = self._piece.count_through(key)
        taken = self._piece.rows.slice(self._taken, stop - self._taken)
        self._taken = stop
        if stop == self._piece.rows.num_rows:
            self._piece, self._taken = self._next_piece(self._piece), 0
        return taken if taken.num_rows else None

    def _next_piece(self, before: Piece | None) -> Piece | None:
        rows = next((rows for rows in self._batches if rows.num_rows), None)
        if rows is None:
            return None
        piece = piece_of(rows)
        goes_on = before is None or before.last_key <= piece.first_key
        if not (goes_on and is_sorted(piece)):
            raise CorruptError(
                f"{self._name} is not sorted by symbol, time and offset: it stays as it is",
                file=self._name,
            )
        return piece


def merged(cursors: Sequence[Cursor]) -> Iterator[pa.Table]:
    """Yield all rows in the order of (symbol, timestamp, offset)."""
    while keys := [key for cursor in cursors if (key := cursor.last_key) is not None]:
        taken = (cursor.take_through(min(keys)) for cursor in cursors)
        yield in_order([rows for rows in taken if rows is not None])


def in_order(parts: Sequence[pa.Table]) -> pa.Table:
    if len(parts) == 1:
        return parts[0]
    rows = pa.concat_tables(parts).combine_chunks()
    codes = coded(rows["symbol"]).codes
    return rows.take(
        pa.array(sort_order(codes, ints(rows["timestamp"]), ints(rows["kafka_offset"])))
    )
