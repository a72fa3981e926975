"""What a healer asks for, and what the exchange's answers say."""

from __future__ import annotations

import pytest

from services.ingestor.healing.budget import Budget
from services.ingestor.healing.plan import Attempt, next_gap, read_answer, rows_to_ask
from services.ingestor.healing.rest import read
from services.ingestor.publishing.missed import OpenGap
from services.ingestor.publishing.sequence import SequenceCheck
from services.ingestor.publishing.symbol_sequence import Gap, Step, SymbolSequence

GAP = Gap(10, 15, seen_us=0)
T0_S = 1_700_000_040.0


def open_gap(first: int, last: int, *, code: int = 0, seen_us: int = 0) -> OpenGap:
    return OpenGap(code, "BTCUSDT", Gap(first, last, seen_us))


def test_ids_between_two_that_the_exchange_lists_never_were() -> None:
    """It lists the trade before, the one after, and some of those between."""
    told = read_answer(GAP, 9, [9, 10, 13, 16])
    assert (told.wanted, told.never_were) == (slice(1, 3), ((11, 12), (14, 15)))
    assert (told.go_on_from, told.because) == (None, "")


def test_an_exchange_that_begins_later_proves_nothing_of_before() -> None:
    """It may have forgotten: those ids stay a gap."""
    told = read_answer(GAP, 9, [13, 14, 16])
    assert (told.wanted, told.never_were) == (slice(0, 2), ((15, 15),))
    assert "no trade before 13" in told.because


@pytest.mark.parametrize(("ids", "because"), [([], "from 9 on"), ([9], "after 9")])
def test_an_exchange_that_is_not_so_far_yet_proves_nothing(ids: list[int], because: str) -> None:
    """Its REST may trail its streams."""
    told = read_answer(GAP, 9, ids)
    assert told.never_were == ()
    assert told.go_on_from is None
    assert because in told.because


def test_a_long_gap_is_asked_for_page_by_page() -> None:
    """Each page begins with the last trade of the one before, so that nothing falls between."""
    long = Gap(10, 5_000, 0)
    assert rows_to_ask(long, 9) == 1_000
    told = read_answer(long, 9, list(range(9, 1_009)))
    assert (told.wanted, told.go_on_from) == (slice(1, 1_000), 1_008)
    assert rows_to_ask(GAP, 9) == 8


def test_new_and_small_gaps_go_first_and_fresh_ones_wait() -> None:
    """What failed waits until it is due."""
    gaps = [open_gap(1, 500), open_gap(600, 601), open_gap(700, 700, seen_us=99)]
    tried = {(0, 600): Attempt(3, due_s=50, because="x")}
    first = next_gap(gaps, {}, now_s=10, seen_before_us=50)
    assert first is gaps[1]
    assert next_gap(gaps, tried, now_s=10, seen_before_us=50) is gaps[0]
    assert next_gap(gaps[1:], tried, now_s=10, seen_before_us=50) is None
    assert next_gap(gaps[1:], tried, now_s=50, seen_before_us=50) is gaps[1]


def test_the_budget_waits_for_the_next_minute() -> None:
    """The exchange's own count holds, with what others on this address used."""
    budget = Budget(most=100).spent(80, T0_S)
    assert budget.wait_s(T0_S) == pytest.approx(60 - T0_S % 60)
    assert "80 of 100" in budget.because(T0_S)
    assert budget.wait_s(T0_S + 60) == 0
    assert Budget(most=100).spent(None, T0_S).spent(None, T0_S).used == 50
    assert budget.spent(None, T0_S + 60).used == 25


def test_a_refusal_holds_for_as_long_as_the_exchange_says() -> None:
    """A minute where it does not say."""
    refused = Budget(most=6_000).refused(429, 7, T0_S)
    assert (refused.wait_s(T0_S), refused.wait_s(T0_S + 8)) == (7, 0)
    assert "429" in refused.because(T0_S)
    assert Budget(most=6_000).refused(418, None, T0_S).wait_s(T0_S) == 60
    assert Budget(most=6_000).refused(429, 0, T0_S).wait_s(T0_S) == 1


def test_answers_are_read_with_their_weight_and_problem() -> None:
    """Rows by rising id; what is wrong says what to do."""
    row = b'{"id":%d,"price":"1","qty":"2","time":3,"isBuyerMaker":true}'
    good = read(200, {"X-MBX-USED-WEIGHT-1M": "75"}, b"[" + row % 6 + b"," + row % 5 + b"]")
    assert ([trade.id for trade in good.trades], good.used_weight) == ([5, 6], 75)
    refused = read(429, {"Retry-After": "12"}, b'{"code":-1003,"msg":"Too much."}')
    assert (refused.retry_after_s, refused.problem) == (12, "429 -1003 Too much.")
    assert "K2_INGESTOR_API_KEY" in read(401, {}, b'{"code":-2015,"msg":"Invalid"}').problem
    assert "K2_INGESTOR_REST_URL" in read(404, {}, b"<html>").problem


def resumed(last: int, *gaps: tuple[int, int]) -> SymbolSequence:
    state = SymbolSequence()
    state.resume(last, gaps, now_us=1)
    return state


def spans(state: SymbolSequence) -> list[tuple[int, int]]:
    return [(gap.first, gap.last) for gap in state.gaps]


def test_what_came_while_nobody_listened_is_a_gap() -> None:
    """From what the book says to the first trade of this process."""
    state = resumed(100, (40, 42))
    state.step(110, 5, 5, 1)
    state.step(111, 6, 6, 1)
    assert spans(state) == [(40, 42), (101, 109)]
    assert state.missing == 12


def test_what_the_spool_holds_is_no_gap() -> None:
    """The memory of the killed process between book and spool is."""
    state = resumed(100, (98, 99))
    state.resume_run(105, 120, now_us=1)
    state.resume_run(98, 98, now_us=1)
    state.step(121, 5, 5, 1)
    assert spans(state) == [(99, 99), (101, 104)]


def test_a_counter_below_the_book_is_another_one() -> None:
    """A session played again, or an exchange that counts anew: nothing is dropped or missed."""
    state = resumed(1_000, (3, 5))
    state.step(1, 5, 5, 1)
    assert (spans(state), state.last) == ([], 1)


def test_a_trade_that_was_listed_before_it_came_hides_no_gap() -> None:
    """REST may tell of it a moment before the stream does: it is late, no new counter."""
    state = resumed(100, (40, 42))
    state.opened(1, now_s=0)
    state.listed(100, 110, now_us=1)
    assert state.step(110, 5, 5, 1) is Step.LATE
    assert spans(state) == [(40, 42), (101, 109)]
    assert (state.step(111, 6, 6, 1), state.last) == (Step.NEXT, 111)
    assert spans(state) == [(40, 42), (101, 109)]


def test_healed_trades_are_taken_once() -> None:
    """What came late by itself meanwhile is not taken again."""
    check = SequenceCheck(1)
    state = check.by_code[0]
    state.step(1, 1, 1, 1)
    state.step(6, 2, 2, 1)
    state.step(3, 1, 3, 1)
    assert state.heal([2, 3, 4, 5, 6], newest_us=2) == [True, False, True, True, False]
    assert (spans(state), state.missing, state.healed) == ([], 0, 3)


def test_ids_that_never_were_are_missed_no_longer() -> None:
    """They are counted apart."""
    state = SymbolSequence()
    state.step(1, 1, 1, 1)
    state.step(6, 2, 2, 1)
    state.close(3, 4)
    assert (spans(state), state.missing, state.venue_holes) == ([(2, 2), (5, 5)], 2, 2)


@pytest.mark.parametrize(
    ("status", "body", "for_all"),
    [
        (403, b"<html>403 Forbidden</html>", True),
        (403, b"", True),
        (403, b'{"code":-2015,"msg":"Invalid API-key"}', False),
        (418, b"", True),
        (429, b'{"code":-1003,"msg":"Too much."}', True),
        (401, b'{"code":-2014,"msg":"API-key format invalid"}', False),
        (404, b"", False),
    ],
)
def test_a_refusal_of_the_address_is_told_from_one_of_the_request(
    status: int, body: bytes, *, for_all: bool
) -> None:
    """Binance's firewall answers 403 without a code of its own."""
    answer = read(status, {}, body)
    assert answer.for_all is for_all
    assert ("API_KEY" in answer.problem) is (status in (401, 403) and not for_all)
