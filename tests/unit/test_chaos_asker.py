"""How a page of an answer is read before it is judged."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2 as pb

from tools.chaos.answers import faults_of
from tools.chaos.asker import ROWS, answer_of


def page_of(*trades: tuple[int, int]) -> pb.ListTradesResponse:
    """Build a page of (id, second), in its order."""
    rows = [pb.Trade(source_sequence=n, timestamp=Timestamp(seconds=at)) for n, at in trades]
    return pb.ListTradesResponse(trades=rows, provenance=pb.Provenance(complete=True))


def test_trades_of_one_time_may_come_in_any_order() -> None:
    """What was healed stands last among them, in the order of the log."""
    answer = answer_of("A", page_of((1, 10), (3, 11), (2, 11), (4, 12)), pb.ORDER_OLDEST_FIRST)
    assert (answer.ids, answer.first_id, list(faults_of(answer))) == ([4, 3, 2, 1], 1, [])


def test_a_full_page_says_nothing_of_the_time_it_ends_in() -> None:
    """The others of that time are on the next page; a hole before it is a hole."""
    full = [(n, n) for n in range(1, ROWS - 1)] + [(ROWS - 1, 9_999), (ROWS + 5, 9_999)]
    whole = answer_of("A", page_of(*full), pb.ORDER_OLDEST_FIRST)
    assert (len(whole.ids), list(faults_of(whole))) == (ROWS - 2, [])
    torn = [(n if n < 7 else n + 1, at) for n, at in full]
    assert list(faults_of(answer_of("A", page_of(*torn), pb.ORDER_OLDEST_FIRST)))


def test_the_newest_page_knows_no_first_trade() -> None:
    """Only the oldest one does."""
    assert answer_of("A", page_of((3, 3), (2, 2)), pb.ORDER_NEWEST_FIRST).first_id is None
