"""A state names what it lacks, however it came to be."""

from __future__ import annotations

import pytest

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.files import index_of
from libs.lake.tables import TRADES_SCHEMA
from services.query.completeness import MissingRange
from services.query.state import State
from services.query.tail import EMPTY_TAIL
from tests.support.query import tail_of, trade_rows

TAIL = tail_of(trade_rows("A", range(50, 100), partition=1))


def offsets(offset: int) -> dict[str, dict[int, int]]:
    return {TRADES_BINANCE: {1: offset}}


def committed(tail: object, seam: int) -> State:
    return State.of(index_of(7, TRADES_SCHEMA, offsets(seam), {}), tail, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "end"),
    [
        (committed(TAIL, 20), 50),
        (committed(EMPTY_TAIL, 20).grown(TAIL, {}), 50),
        (committed(TAIL, 20).below(offsets(60)), 50),
        (committed(TAIL, 20).below(offsets(40)), 40),
    ],
    ids=["of a commit", "of a read", "below a page's bound", "below a bound in the hole"],
)
def test_what_lies_between_seam_and_tail_is_lacking(state: State, end: int) -> None:
    """The tail's low bound is past the seam: never complete."""
    assert state.lacks == (MissingRange(TRADES_BINANCE, 1, 20, end),)
    assert not state.complete


def test_a_tail_from_the_seam_on_is_complete() -> None:
    """Also where the seam has moved into the tail."""
    assert committed(TAIL, 50).complete
    assert committed(TAIL, 70).complete
