"""A page after a complete one: what was there then may be gone by now, here or for good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.seam import TopicPartition
from libs.lake.completeness.scope import Scope
from libs.lake.files.index import index_of
from libs.lake.ledger.coverage import Ids, Series
from libs.lake.ledger.ledger import Dead, Ledger, Lost, PartitionBook, Shed
from libs.lake.table.naming import fresh_columns
from libs.lake.table.tables import TRADES_SCHEMA
from libs.market.bucket import bucket_of
from services.query.completeness.certifying import Certifier
from services.query.state import State
from services.query.tail.tail import EMPTY_TAIL, Tail

BTC = "BTCUSDT"
PLACE = TopicPartition(TRADES_BINANCE, bucket_of(BTC))
KEPT = Tail(kept={TRADES_BINANCE: {PLACE.partition: ((2, 6),)}})
SHED = PartitionBook(shed=(Shed(2, 6, ("LOW",), "1", (BTC,), 4, 0),))
LOST = PartitionBook(lost=(Lost(2, 6, 0),))
DEAD = PartitionBook(dead=(Dead(2, 6, BTC, "UNKNOWN_SCHEMA", 0),))


def offsets(offset: int) -> dict[str, dict[int, int]]:
    return {TRADES_BINANCE: {PLACE.partition: offset}}


def state_of(ledger: Ledger, tail: Tail = EMPTY_TAIL) -> State:
    index = replace(index_of(1, fresh_columns(TRADES_SCHEMA), offsets(8), {}), ledger=ledger)
    return State.of(index, tail, offsets(8))


def lacks(state: State, bound: int) -> list[str]:
    return [each.why for each in Certifier().still(state.below(offsets(bound)), Scope(BTC)).lacks]


@pytest.mark.parametrize(("book", "why"), [(SHED, "SHED"), (LOST, "LOST"), (DEAD, "DEAD_LETTER")])
def test_a_later_page_names_what_the_first_one_had(book: PartitionBook, why: str) -> None:
    """By a service that has not read the rows back, or where the log forgot them meanwhile."""
    state = state_of(Ledger(partitions={PLACE: book}))
    assert lacks(state, 8) == [why]
    assert lacks(state, 2) == []


def test_a_later_page_has_the_shed_rows_that_are_kept() -> None:
    """They are in its rows as in those of the first."""
    assert lacks(state_of(Ledger(partitions={PLACE: SHED}), KEPT), 8) == []


def test_a_gap_since_the_first_page_lies_past_its_bound() -> None:
    """Nothing of the first page's rows was missing, so it is none of the later pages'."""
    held = (Ids(1, 5, 1, 5), Ids(7, 9, 7, 9))
    assert lacks(state_of(Ledger(coverage={Series("BINANCE", "CRYPTO", BTC, 0): held})), 8) == []
