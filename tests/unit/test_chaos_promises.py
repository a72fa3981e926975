"""What a chaos run promises, held against what was seen: each is broken by what breaks it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from libs.degradation.level import Level
from libs.degradation.policy import Priority
from tools.chaos import memory, promises, venue
from tools.chaos.answers import Answer, Judgement
from tools.chaos.promises import Deferred, Promise
from tools.chaos.story import Event, Kind
from tools.cli.session.proof import Answered, Proof
from tools.simulator.truth import ExpectedTrades

NORMAL, SOFT, GRACEFUL, AGGRESSIVE, CIRCUIT_BREAK = Level
UP_AND_DOWN = [*Level, *list(Level)[-2::-1]]
ALL_WELL = {
    Priority.CRITICAL: Deferred(0, 0, 500, 500),
    Priority.HIGH: Deferred(90, 90, 500, 500),
    Priority.NORMAL: Deferred(80, 80, 500, 500),
    Priority.LOW: Deferred(100, 100, 500, 500),
}


def broken(found: list[Promise]) -> list[str]:
    return [promise.says for promise in found if not promise.held]


def test_five_levels_up_and_down_are_as_promised() -> None:
    """Each shown, and no step down of more than one."""
    assert promises.rose_through_all(UP_AND_DOWN).held
    assert promises.fell_one_by_one(UP_AND_DOWN).held
    assert promises.normal_in_the_end(UP_AND_DOWN).held


@pytest.mark.parametrize(
    ("levels", "rose", "fell"),
    [
        ([], False, False),
        ([NORMAL, SOFT, GRACEFUL, AGGRESSIVE, GRACEFUL, SOFT, NORMAL], False, True),
        ([*Level, AGGRESSIVE, NORMAL], True, False),
        ([*Level, AGGRESSIVE, GRACEFUL, SOFT], True, False),
        ([NORMAL, CIRCUIT_BREAK, AGGRESSIVE, GRACEFUL, SOFT, NORMAL], True, True),
    ],
    ids=["nothing shown", "never the last", "a leap down", "not back", "a leap up may be"],
)
def test_a_level_that_is_left_out_or_leapt_over_breaks_a_promise(
    levels: list[Level], *, rose: bool, fell: bool
) -> None:
    """Up at once is how it is meant; down is one by one."""
    assert promises.rose_through_all(levels).held is rose
    assert promises.fell_one_by_one(levels).held is fell


def test_each_class_below_critical_must_have_waited_and_be_written() -> None:
    """As many of it were written since as were put off, and the table has all of it."""
    assert not broken(list(promises.deferred_and_written(ALL_WELL)))


@pytest.mark.parametrize("priority", [Priority.HIGH, Priority.NORMAL, Priority.LOW])
@pytest.mark.parametrize(
    "change",
    [
        {"shed": 0, "backfilled": 0},
        {"backfilled": 79},
        {"stored": 499},
    ],
    ids=["never put off", "not all written since", "not all in the table"],
)
def test_a_class_that_did_not_wait_or_is_not_written_breaks_a_promise(
    priority: Priority, change: dict[str, int]
) -> None:
    """And no other class is blamed."""
    seen = {**ALL_WELL, priority: replace(ALL_WELL[priority], **change)}
    found = broken(list(promises.deferred_and_written(seen)))
    assert found == [f"{priority} trades are put off under load, and written afterwards"]


def test_a_critical_trade_that_waits_breaks_a_promise() -> None:
    """Also where it is written afterwards."""
    seen = {**ALL_WELL, Priority.CRITICAL: Deferred(1, 1, 500, 500)}
    assert broken(list(promises.deferred_and_written(seen))) == ["no critical trade ever waits"]


def expected(count: int, sha: str = "a") -> ExpectedTrades:
    return ExpectedTrades("X", count, 1, count, sha)


@pytest.mark.parametrize(
    ("answered", "held"),
    [
        (Answered(expected(5), 5, 5, complete=True), True),
        (Answered(expected(4), 4, 4, complete=True), False),
        (Answered(expected(5), 6, 5, complete=True), False),
        (Answered(expected(5, "b"), 5, 5, complete=True), False),
        (Answered(expected(5), 5, 5, complete=False), False),
    ],
    ids=["equal", "one missing", "one twice", "another digit", "not said to be complete"],
)
def test_what_was_sent_must_be_what_is_answered(answered: Answered, *, held: bool) -> None:
    """Every trade, once, digit by digit."""
    assert promises.all_there(Proof({"X": expected(5)}, {"X": answered})).held is held


def test_nothing_sent_proves_nothing() -> None:
    """Nor does no certificate, nor no question."""
    assert not promises.all_there(Proof({}, {})).held
    assert not promises.certified({}, []).held
    assert not promises.never_wrong(Judgement()).held


def test_a_certificate_that_lacks_something_is_told_in_its_own_words() -> None:
    """The first of them."""
    promise = promises.certified({"A": "A is complete", "B": "B lacks 1 gap"}, ["B"])
    assert (promise.held, "1 of 2 symbols" in promise.seen, "1 gap" in promise.seen) == (
        (False, True, True)
    )


def asked(*answers: Answer) -> Judgement:
    judgement = Judgement()
    for answer in (*[Answer("A", [3, 2, 1], complete=True)] * promises.LEAST_ANSWERS, *answers):
        judgement.take(answer)
    return judgement


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        (Answer("A", [9, 8, 7], complete=True), True),
        (Answer("A", [9, 7, 6], complete=False, lacks=1), True),
        (Answer("A", [], complete=True), True),
        (Answer("A", [9, 7, 6], complete=True), False),
        (Answer("A", [9, 9, 8], complete=False, lacks=1), False),
        (Answer("A", [9, 7], complete=False), False),
    ],
    ids=["whole", "a hole that is named", "empty", "a silent hole", "twice", "lacks it knows not"],
)
def test_one_wrong_answer_breaks_the_promise(answer: Answer, *, held: bool) -> None:
    """Among any number of right ones."""
    assert promises.never_wrong(asked(answer)).held is held


def test_a_first_trade_that_was_there_must_stay() -> None:
    """Of each symbol; an answer that says it lacks something may begin later."""
    first = Answer("A", [3, 2, 1], complete=True, to_the_first=True)
    later = Answer("A", [3, 2], complete=True, to_the_first=True)
    lacking = Answer("A", [3, 2], complete=False, lacks=1, to_the_first=True)
    assert promises.never_wrong(asked(later, first, lacking)).held
    assert not promises.never_wrong(asked(first, later)).held


def test_a_question_that_is_not_answered_is_counted_and_not_wrong() -> None:
    """A service that is killed answers nobody."""
    judgement = asked()
    judgement.refused("UNAVAILABLE")
    promise = promises.never_wrong(judgement)
    assert (promise.held, "1 UNAVAILABLE" in promise.seen) == (True, True)


def test_one_restart_is_one() -> None:
    """The process that was started anew is the one that runs in the end."""
    cured = Event(5.0, Kind.SEEN, f"{memory.CURED} and serves", {"pid": 12})
    assert memory.cured_by_one([cured], 12).held
    assert not memory.cured_by_one([cured], 13).held
    assert not memory.cured_by_one([], 12).held


def test_an_exchange_that_behaves_harms_nobody() -> None:
    """Each misdeed must be in its own account, as often as it was told to."""
    did = Counter[str](misdeed.fault.kind for misdeed in venue.MISDEEDS)
    assert venue.did_all(did).held
    for kind in did:
        assert not venue.did_all(did - Counter([kind])).held, kind
    assert not venue.did_all({}).held
