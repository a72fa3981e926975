"""The ids of rows, and which rows are new: first wins. Pure, by the column, no object a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from libs.lake.arrange import dense, ints
from libs.lake.coverage import Counts, Coverage, Ids, Ints, Mask, Series, contains

TEXTS = ("exchange", "asset_class", "symbol")


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
    present = np.arange(table.num_rows)
    if table["source_sequence"].null_count:
        present = np.flatnonzero(table["source_sequence"].is_valid().to_numpy())
        table = table.select(KEYS).take(pa.array(present))
    if not table.num_rows:
        nothing = np.zeros(0, dtype=np.int64)
        return Numbered([], nothing, nothing, nothing, nothing)
    series, code = coded_series(table)
    ids = ints(table["source_sequence"])
    order = in_order(code, ids)
    return Numbered(
        series, code[order], ids[order], ints(table["timestamp"])[order], present[order]
    )


KEYS = [*TEXTS, "sequence_epoch", "source_sequence", "timestamp"]


def coded_series(table: pa.Table) -> tuple[list[Series], Ints]:
    """Number the series of rows from 0, and say which each row is of."""
    texts = [codes(table[name]) for name in TEXTS]
    epoch = ints(table["sequence_epoch"])
    keys = [code for code, values in texts if len(values) > 1]
    keys += [epoch] if epoch.min() != epoch.max() else []
    code = dense(keys) if keys else np.zeros(len(epoch), dtype=np.int64)
    first = np.zeros(int(code.max()) + 1, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    names = [[values[at] for at in code[first].tolist()] for code, values in texts]
    return list(map(Series, *names, epoch[first].tolist())), code


def codes(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    array = column.combine_chunks()
    coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()


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
        held = coverage.get(series)
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
