"""A state names what it lacks, however it came to be."""

from __future__ import annotations

import pytest

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.completeness.scope import Scope
from libs.lake.files.index import index_of
from libs.lake.table.naming import fresh_columns
from libs.lake.table.tables import TRADES_SCHEMA
from services.query.completeness.certifying import NOT_KNOWN_YET, Certifier
from services.query.completeness.missing import MissingRange
from services.query.state import State
from services.query.tail.tail import EMPTY_TAIL
from tests.support.query import tail_of, trade_rows

TAIL = tail_of(trade_rows("A", range(50, 100), partition=1))


def offsets(offset: int) -> dict[str, dict[int, int]]:
    return {TRADES_BINANCE: {1: offset}}


def complete(state: State) -> bool:
    """Say whether an answer over everything is complete."""
    return Certifier().verdict(state, Scope()).complete


def committed(tail: object, seam: int) -> State:
    index = index_of(7, fresh_columns(TRADES_SCHEMA), offsets(seam), {})
    return State.of(index, tail, offsets(100))  # type: ignore[arg-type]


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
    assert state.absent == (MissingRange(TRADES_BINANCE, 1, 20, end),)
    assert not complete(state)


def test_a_tail_from_the_seam_on_is_complete() -> None:
    """Also where the seam has moved into the tail."""
    assert complete(committed(TAIL, 50))
    assert complete(committed(TAIL, 70))


def test_nothing_is_complete_before_the_logs_end_is_known() -> None:
    """Without a word from the log nobody can say what is missing; what is committed stays so."""
    index = index_of(7, fresh_columns(TRADES_SCHEMA), offsets(50), {})
    assert not complete(State.of(index, EMPTY_TAIL, {}))
    assert complete(State.of(index, EMPTY_TAIL, {}).grown(TAIL, offsets(100)))
    assert complete(State.at_snapshot(index, {}))


def test_what_is_not_complete_says_why_from_the_first_answer_on() -> None:
    """Also where nothing is known to be missing: then the end of the log is not known."""
    index = index_of(7, fresh_columns(TRADES_SCHEMA), offsets(50), {})
    state = State.of(index, EMPTY_TAIL, {})
    for verdict in (Certifier().verdict(state, Scope()), Certifier().still(state, Scope())):
        assert [lack.detail for lack in verdict.lacks] == [NOT_KNOWN_YET]
        assert not verdict.complete


def test_an_unreachable_log_is_lacking_until_it_is_reached_again() -> None:
    """Whatever is committed or read meanwhile; a snapshot alone needs no log."""
    away = committed(TAIL, 50).told(reached=False)
    index = away.index
    for state in (away, away.committed(index, None), away.grown(TAIL, offsets(100))):
        assert (complete(state), state.log_is_known) == (False, False)
        assert state.absent == (MissingRange(TRADES_BINANCE, 1, 100, 100, "LOG_UNREACHABLE"),)
    assert complete(away.told(reached=True))
    assert complete(State.at_snapshot(index, away.log_ends))
