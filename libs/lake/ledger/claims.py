"""The ids of rows, and which rows are new: first wins. Pure, by the column, no object a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.lake.files.arrange import dense, ints
from libs.lake.ledger.coverage import Counts, Coverage, Ids, Ints, Mask, Series, contains

TEXTS = ("exchange", "asset_class", "symbol")
KEYS = [*TEXTS, "sequence_epoch", "source_sequence", "timestamp"]

# Codes into values; no codes where all rows have the one value.
Coded = tuple[Ints | None, list[Any]]


@dataclass(frozen=True, slots=True)
class Wins:
    """What first-wins leaves of some rows; `claims` are the ids of those kept."""

    keep: Mask
    duplicates: Counts
    claims: Coverage


@dataclass(frozen=True, slots=True)
class Numbered:
    """Rows that have an id, sorted by series, id and place; `rows` says where they stood."""

    series: list[Series]
    code: Ints
    ids: Ints
    time_us: Ints
    rows: Ints

    def starts(self) -> Ints:
        """Return where each series begins, and the end."""
        return np.searchsorted(self.code, np.arange(len(self.series) + 1))


def claims_of(rows: pa.Table | pa.RecordBatch) -> Coverage:
    """Return the ids of rows, each once."""
    numbered = number(rows)
    return claimed(numbered, ~repeats(numbered))


def first_wins(rows: pa.Table | pa.RecordBatch, coverage: Coverage) -> Wins:
    """Say which rows are new: neither held already nor a repeat of a row further up.

    Rows without an id are always kept: nothing tells them apart.
    """
    numbered = number(rows)
    known = repeats(numbered)
    for at, start, stop in within_reach(numbered, coverage):
        known[start:stop] |= contains(coverage, numbered.series[at], numbered.ids[start:stop])
    keep = np.ones(rows.num_rows, dtype=np.bool_)
    if not known.any():
        return Wins(keep, {}, claimed(numbered, ~known))
    keep[numbered.rows[known]] = False
    counts = np.bincount(numbered.code[known], minlength=len(numbered.series))
    duplicates = {numbered.series[at]: int(counts[at]) for at in np.flatnonzero(counts).tolist()}
    return Wins(keep, duplicates, claimed(numbered, ~known))


def number(rows: pa.Table | pa.RecordBatch) -> Numbered:
    table = pa.table(rows) if isinstance(rows, pa.RecordBatch) else rows
    present = None
    if table["source_sequence"].null_count:
        present = np.flatnonzero(table["source_sequence"].is_valid().to_numpy())
        table = table.select(KEYS).take(pa.array(present))
    if not table.num_rows:
        nothing = np.zeros(0, dtype=np.int64)
        return Numbered([], nothing, nothing, nothing, nothing)
    series, code = coded_series(table)
    ids = ints(table["source_sequence"])
    order = in_order(code, ids)
    time_us = ints(table["timestamp"])[order]
    return Numbered(
        series, code[order], ids[order], time_us, order if present is None else present[order]
    )


def coded_series(table: pa.Table) -> tuple[list[Series], Ints]:
    """Number the series of rows from 0, and say which each row is of."""
    texts = [codes(table[name]) for name in TEXTS]
    epoch = codes_of_numbers(table["sequence_epoch"])
    varying = [code for code, _ in (*texts, epoch) if code is not None]
    if not varying:
        return [Series(*(values[0] for _, values in (*texts, epoch)))], zeros(table.num_rows)
    code = varying[0] if len(varying) == 1 else dense(varying)
    first = zeros(int(code.max()) + 1)
    first[code[::-1]] = np.arange(len(code))[::-1]
    names = [named(column, first) for column in (*texts, epoch)]
    return list(map(Series, *names)), code


def codes(column: pa.ChunkedArray) -> Coded:
    """Return a text column as codes into its values; none where it is one value throughout."""
    array = column.combine_chunks()
    if not pa.types.is_dictionary(array.type):
        # Two columns of three nearly always are: comparing costs a fifth of encoding.
        if pc.all(pc.equal(array, array[0])).as_py():
            return None, [array[0].as_py()]
        array = array.dictionary_encode()
    values = array.dictionary.to_pylist()
    return array.indices.to_numpy().astype(np.int64) if len(values) > 1 else None, values


def codes_of_numbers(column: pa.ChunkedArray) -> Coded:
    extent = pc.min_max(column).as_py()
    if extent["min"] == extent["max"]:
        return None, [extent["min"]]
    values, code = np.unique(ints(column), return_inverse=True)
    return code, values.tolist()


def named(column: Coded, rows: Ints) -> list[Any]:
    code, values = column
    return values * len(rows) if code is None else [values[at] for at in code[rows].tolist()]


def zeros(count: int) -> Ints:
    return np.zeros(count, dtype=np.int64)


def in_order(code: Ints, ids: Ints) -> Ints:
    """Return the stable permutation by (series, id). Ids nearly always come in order."""
    narrow = code.astype(np.uint16) if code.max() < 1 << 16 else code
    order = np.argsort(narrow, kind="stable")
    back = (np.diff(ids[order]) < 0) & (np.diff(code[order]) == 0)
    return np.lexsort((ids, code)) if back.any() else order


def repeats(numbered: Numbered) -> Mask:
    """Mark the rows whose id a row before them has."""
    again = np.zeros(len(numbered.ids), dtype=np.bool_)
    again[1:] = (np.diff(numbered.ids) == 0) & (np.diff(numbered.code) == 0)
    return again


def within_reach(numbered: Numbered, coverage: Coverage) -> Iterator[tuple[int, int, int]]:
    """Yield the series, and their rows, that the coverage may hold an id of."""
    starts = numbered.starts().tolist()
    for at, series in enumerate(numbered.series):
        start, stop = starts[at], starts[at + 1]
        held = coverage.get(series) if start < stop else None
        if held and numbered.ids[start] <= held[-1].last and numbered.ids[stop - 1] >= held[0][0]:
            yield at, start, stop


def claimed(numbered: Numbered, kept: Mask) -> Coverage:
    """Return the ids of the rows kept, as ranges."""
    whole = bool(kept.all())
    code = numbered.code if whole else numbered.code[kept]
    ids = numbered.ids if whole else numbered.ids[kept]
    time_us = numbered.time_us if whole else numbered.time_us[kept]
    if not len(ids):
        return {}
    begins = np.concatenate(([True], (np.diff(ids) != 1) | (np.diff(code) != 0)))
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(ids)) - 1
    ranges = map(
        Ids,
        ids[starts].tolist(),
        ids[ends].tolist(),
        np.minimum.reduceat(time_us, starts).tolist(),
        np.maximum.reduceat(time_us, starts).tolist(),
    )
    held: dict[Series, list[Ids]] = {}
    for at, one in zip(code[starts].tolist(), ranges, strict=True):
        held.setdefault(numbered.series[at], []).append(one)
    return {series: tuple(some) for series, some in held.items()}
