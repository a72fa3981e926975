"""Columns beyond a trade's own, as a state knows them: from the table's schema and the tail's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache

import pyarrow as pa

from libs.market.errors import InvalidError
from services.query.asked import ANSWER_COLUMNS
from services.query.reading.rows import Listing
from services.query.state import State

MOST_NAME_CHARACTERS = 64


def answered(listing: Listing, state: State) -> Listing:
    """Return a listing with the columns it asks for in this state; all where it names none.

    Raises:
        InvalidError: on `columns`: the state has no such column.
    """
    added = added_columns(state)
    columns = chosen(listing.columns, tuple(field.name for field in added))
    asked = tuple(field for field in added if field.name in columns)
    return replace(listing, columns=columns, added=asked)


@lru_cache(maxsize=256)
def chosen(asked: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns asked for in the table's order, all where none is."""
    known = (*ANSWER_COLUMNS, *added)
    for name in asked:
        if name not in known:
            raise unknown_column(name, known)
    return tuple(name for name in known if name in asked) or known


def added_columns(state: State) -> tuple[pa.Field, ...]:
    """Return what was added to the table, and what the tail has that the table has not yet."""
    found = {field.name: field for field in state.index.columns.added}
    for chunk in state.tail.answering:
        for field in chunk.added:
            before = found.setdefault(field.name, field)
            if before.type != field.type:
                found[field.name] = wider(before, field)
    return tuple(found.values())


def wider(one: pa.Field, other: pa.Field) -> pa.Field:
    return pa.unify_schemas(
        [pa.schema([one]), pa.schema([other])], promote_options="permissive"
    ).field(0)


def unknown_column(name: str, known: Iterable[str]) -> InvalidError:
    near = get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return InvalidError(
        f"there is no column {name[:MOST_NAME_CHARACTERS]!r}; {hint}known are {', '.join(known)}",
        field="columns",
    )
