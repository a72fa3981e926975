"""First wins, in the tail as in the table: a trade that was sent again never shows twice. Pure.

A row goes where the table holds its id, or a row before it in its partition has it. Of the second
kind the rows are put aside, for the row before may be lost where this one will be stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from libs.lake.ledger.claims import Numbered, number, repeats, within_reach
from libs.lake.ledger.coverage import (
    Counts,
    Coverage,
    Held,
    Series,
    contains,
    held_ids,
    join,
    overlaps,
)
from services.query.tail.chunk import Chunk, Int64s, Mask, only


class Parted(NamedTuple):
    """A chunk's new rows, those that repeat a row that is here, and how many are left out."""

    new: Chunk | None
    repeats: Chunk | None
    dropped: Counts


def parted(chunk: Chunk, stored: Coverage, here: Coverage) -> Parted:
    """Tell new rows from those whose id is stored, and from those whose id a row here has."""
    if not repeats_itself(chunk) and not any(
        overlaps(chunk.claims, known) for known in (stored, here)
    ):
        return Parted(chunk, None, {})
    order = np.lexsort((chunk.offsets, chunk.partitions))
    numbered = number(chunk.batch.take(order))
    held, known = known_in(numbered, stored), known_in(numbered, here) | repeats(numbered)
    again = in_chunk(numbered, order, known & ~held)
    keep = ~in_chunk(numbered, order, known | held)
    return Parted(only(chunk, keep), only(chunk, again), counted(numbered, known | held))


def without(chunk: Chunk, stored: Coverage) -> Chunk | None:
    """Return the rows whose id is not stored."""
    if not overlaps(chunk.claims, stored):
        return chunk
    numbered = number(chunk.batch)
    held = in_chunk(numbered, np.arange(chunk.rows), known_in(numbered, stored))
    return only(chunk, ~held)


def ids_of(chunks: Iterable[Chunk]) -> Coverage:
    found: dict[Series, Held] = {}
    for chunk in chunks:
        for series, held in chunk.claims.items():
            found[series] = join(found.get(series, ()), held)
    return found


def repeats_itself(chunk: Chunk) -> bool:
    with_id: int = chunk.rows - chunk.batch["source_sequence"].null_count
    return with_id > held_ids(chunk.claims)


def known_in(numbered: Numbered, coverage: Coverage) -> Mask:
    known = np.zeros(len(numbered.ids), np.bool_)
    for at, start, stop in within_reach(numbered, coverage):
        known[start:stop] = contains(coverage, numbered.series[at], numbered.ids[start:stop])
    return known


def in_chunk(numbered: Numbered, order: Int64s, marked: Mask) -> Mask:
    """Mark the chunk's rows, of which `order` says where each numbered one stands."""
    mask = np.zeros(len(order), np.bool_)
    mask[order[numbered.rows[marked]]] = True
    return mask


def counted(numbered: Numbered, marked: Mask) -> Counts:
    counts = np.bincount(numbered.code[marked], minlength=len(numbered.series))
    return {numbered.series[at]: int(counts[at]) for at in np.flatnonzero(counts).tolist()}
