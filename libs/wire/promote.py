"""Batches side by side whose added columns differ."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa


def together(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Make one batch of several, at least one: null where one lacks a column, of the wider type."""
    if alike(batches):
        return pa.concat_batches(batches)
    whole = stacked(batches).combine_chunks()
    return pa.RecordBatch.from_arrays(
        [column.combine_chunks() for column in whole.columns], schema=whole.schema
    )


def stacked(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Make one table of several batches, at least one, copying nothing where they are alike."""
    if alike(batches):
        return pa.Table.from_batches(batches)
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    return pa.concat_tables(tables, promote_options="permissive")


def alike(batches: Sequence[pa.RecordBatch]) -> bool:
    first = batches[0].schema
    return all(batch.schema.equals(first) for batch in batches[1:])
