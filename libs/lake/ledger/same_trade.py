"""Rows that claim one id: which came first, and do they say the same? Pure, by the column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.lake.files.arrange import ints
from libs.lake.ledger.claims import KEYS, number, repeats
from libs.lake.ledger.coverage import Ints, Mask

# What makes two trades of one id the same: these, and the time to the millisecond.
VALUES = ("price", "quantity", "side")
PLACE = ("kafka_topic", "kafka_partition", "kafka_offset")
COMPARED = (*KEYS, *VALUES)
TOLD = (*COMPARED, *PLACE)

# Asked with the rows still in search of their first, and for columns; answers rows that may be it.
Source = Callable[[pa.Table, Sequence[str]], pa.Table]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A row by its place, and the one held under its id; None where that was not found."""

    row: int
    held: Mapping[str, object] | None


def conflicts(suspects: pa.Table, sources: Iterable[Source]) -> list[Conflict]:
    """Compare rows with those held under their ids; return the ones that say something else.

    Sources are asked in turn, each with what those before did not have.
    """
    left = np.arange(suspects.num_rows)
    found: list[Conflict] = []
    for source in sources:
        if not len(left):
            break
        wanted = chosen(suspects, left)
        held = source(wanted, COMPARED)
        rows, firsts = matched(held, wanted)
        differ = differing(wanted, rows, held, firsts)
        if differ.any():
            # The same rows in the same order, for the question is the same.
            kept = source(wanted, TOLD).take(pa.array(firsts[differ])).to_pylist()
            found += map(Conflict, left[rows[differ]].tolist(), kept)
        left = np.delete(left, rows)
    nowhere = [Conflict(row, None) for row in left.tolist()]
    return sorted([*found, *nowhere], key=lambda conflict: conflict.row)


def chosen(rows: pa.Table, at: Ints) -> pa.Table:
    """Return some rows, or without a copy all of them; `at` names each at most once, in order."""
    compared = rows.select(COMPARED)
    return compared if len(at) == rows.num_rows else compared.take(pa.array(at))


def matched(held: pa.Table, wanted: pa.Table) -> tuple[Ints, Ints]:
    """Return which rows of `wanted` have their id in `held`, and where there."""
    both = pa.concat_tables([keys_of(held), keys_of(wanted)])
    numbered = number(both)
    begins = np.flatnonzero(~repeats(numbered))
    first = numbered.rows[np.repeat(begins, np.diff(np.append(begins, len(numbered.rows))))]
    hit = (numbered.rows >= held.num_rows) & (first < held.num_rows)
    return numbered.rows[hit] - held.num_rows, first[hit]


def keys_of(rows: pa.Table) -> pa.Table:
    """Return the key columns; what may be null in them differs between buffer and file."""
    return pa.Table.from_arrays([rows[name] for name in KEYS], names=KEYS)


def differing(one: pa.Table, rows: Ints, other: pa.Table, others: Ints) -> Mask:
    """Say of each pair of rows whether they are two trades."""
    compared = ("timestamp", *VALUES)
    left = one.select(compared).take(pa.array(rows))
    right = other.select(compared).take(pa.array(others))
    differ = ints(left["timestamp"]) // 1000 != ints(right["timestamp"]) // 1000
    for name in VALUES:
        differ |= pc.not_equal(left[name], right[name]).to_numpy()
    return np.asarray(differ)
