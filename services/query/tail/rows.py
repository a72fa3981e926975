"""Rows of the tail: those wanted, chunk by chunk, and no more of them than are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np
import pyarrow as pa

from services.query.asked import Selection
from services.query.tail.chunk import Chunk, edge_us, ints, reaches_past, select
from services.query.tail.tail import Tail


def rows_of(
    tail: Tail,
    wanted: Selection,
    columns: Sequence[str],
    *,
    most: int | None = None,
    newest: bool = True,
) -> list[pa.RecordBatch]:
    """Return the wanted rows as batches, each in row order, the batches in none.

    With `most`, at least the so many nearest to the newest or oldest end, of each symbol; their
    columns must have the timestamp.
    """
    if most == 0:
        return []
    floor = wanted.floor
    chunks = [
        chunk
        for chunk in tail.answering
        if (not wanted.symbol or wanted.symbol in chunk.slices)
        and (floor is None or reaches_past(chunk, floor))
    ]
    if most is not None and wanted.symbol:
        return nearest(chunks, wanted, columns, most=most, newest=newest)
    return [
        batch
        for chunk in chunks
        for batch in select(chunk, wanted, columns, most=most, newest=newest)
    ]


def nearest(
    chunks: Sequence[Chunk], wanted: Selection, columns: Sequence[str], *, most: int, newest: bool
) -> list[pa.RecordBatch]:
    """Take rows chunk by chunk from one end; a chunk whose rows all lie further is not touched."""
    edges = {chunk: edge_us(chunk, wanted, newest=newest) for chunk in chunks}
    sign = -1 if newest else 1
    found: list[pa.RecordBatch] = []
    distances = np.empty(0, np.int64)
    for edge, chunk in sorted(
        ((sign * edge, chunk) for chunk, edge in edges.items() if edge is not None),
        key=itemgetter(0),
    ):
        if len(distances) >= most and edge > np.partition(distances, most - 1)[most - 1]:
            break
        batches = select(chunk, wanted, columns, most=most, newest=newest)
        distances = np.concatenate([distances, *(sign * ints(b["timestamp"]) for b in batches)])
        found += batches
    return found
