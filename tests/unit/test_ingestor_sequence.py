"""The sequence check."""

from __future__ import annotations

from services.ingestor.parsing.columns import TradeColumns
from services.ingestor.publishing.sequence import SequenceCheck
from services.ingestor.publishing.symbol_sequence import (
    RECENT_GAPS,
    Gap,
    Step,
    SymbolSequence,
    Unheard,
)
from tests.support.binance import stamps

TIME_US = 1_723_161_255_342_000


def columns(
    ids: list[int], times: list[int] | None = None, codes: list[int] | None = None
) -> TradeColumns:
    rows = len(ids)
    return TradeColumns.build(
        codes=codes or [0] * rows,
        ids=ids,
        prices=["1"] * rows,
        quantities=["1"] * rows,
        times=times or [TIME_US + id_ for id_ in ids],
        event_times=[0] * rows,
        sold=[True] * rows,
        best_match=[True] * rows,
        received_us=stamps(rows),
    )


def test_ids_that_go_on_need_no_look_at_each() -> None:
    """Nothing to report, whatever the order of symbols in a burst."""
    check = SequenceCheck(2)
    verdict = check.check(columns([5, 70, 6, 71, 7], codes=[0, 1, 0, 1, 0]), 1)
    assert not verdict.steps
    assert [state.last for state in check.by_code] == [7, 71]


def test_a_gap_is_counted_kept_and_closed_by_late_trades() -> None:
    """Its trades are missing until they come."""
    check = SequenceCheck(1)
    check.check(columns([1, 2, 6]), 1)
    state = check.by_code[0]
    assert (state.gap_count, state.missing) == (1, 3)
    assert [(gap.first, gap.last) for gap in state.gaps] == [(3, 5)]
    verdict = check.check(columns([4, 7]), 1)
    assert verdict.steps == {Step.LATE: 1, Step.NEXT: 1}
    assert [(gap.first, gap.last) for gap in state.gaps] == [(3, 3), (5, 5)]
    check.check(columns([3, 5]), 1)
    assert (state.missing, list(state.gaps), state.trades) == (0, [], 7)


def test_a_repeat_on_the_same_connection_is_passed_on() -> None:
    """The exchange sent it twice: the writer decides."""
    check = SequenceCheck(1)
    check.check(columns([1, 2, 3]), 1)
    verdict = check.check(columns([2, 3, 4]), 1)
    assert verdict.drop == []
    assert verdict.steps == {Step.REPEAT: 2, Step.NEXT: 1}
    assert check.by_code[0].repeats == 2


def test_an_overlapping_connection_doubles_nothing_and_loses_nothing() -> None:
    """Copies are dropped, what only one of them carried is kept, in any interleaving."""
    check = SequenceCheck(1)
    kept: list[int] = []
    for connection, ids in (
        (1, [1, 2]),
        (2, [4, 5]),
        (1, [3, 4]),
        (2, [6]),
        (1, [5, 6, 7]),
        (2, [7, 8]),
    ):
        batch = columns(ids)
        verdict = check.check(batch, connection)
        kept += batch.where(verdict.kept(len(batch))).ids.tolist()
    assert sorted(kept) == list(range(1, 9))
    assert check.by_code[0].missing == 0


def test_a_reconnect_that_sends_again_doubles_nothing() -> None:
    """The old connection is gone, its trades are not sent to Kafka twice."""
    check = SequenceCheck(1)
    check.check(columns([1, 2, 3]), 1)
    check.forget(1)
    assert check.check(columns([2, 3, 4]), 2).drop == [0, 1]


def test_a_counter_that_begins_anew_is_a_restart() -> None:
    """New times with old ids are new trades, from another connection too."""
    check = SequenceCheck(1)
    check.check(columns([1000, 1001]), 1)
    verdict = check.check(columns([1, 2], times=[TIME_US + 5000, TIME_US + 5001]), 2)
    assert verdict.drop == []
    assert verdict.steps == {Step.RESTART: 1, Step.NEXT: 1}


def test_ids_before_the_first_are_kept() -> None:
    """A trade that was held up while we connected."""
    check = SequenceCheck(1)
    check.check(columns([10]), 1)
    assert check.check(columns([9]), 2).steps == {Step.LATE: 1}


def test_below_a_forgotten_gap_nothing_is_dropped() -> None:
    """What cannot be told any more is passed on."""
    state = SymbolSequence()
    for id_ in range(1, 2 * RECENT_GAPS + 10, 2):
        state.step(id_, TIME_US + id_, 0, 1)
    assert len(state.gaps) == RECENT_GAPS
    assert state.gaps[-1] == Gap(2 * RECENT_GAPS + 8, 2 * RECENT_GAPS + 8, 0)
    assert state.step(2, TIME_US, 0, 2) is Step.LATE


def test_a_symbol_is_unheard_until_a_connection_brings_something_newer() -> None:
    """One that the connection carries already is not, and neither is one nobody knows."""
    check = SequenceCheck(3)
    check.check(columns([10, 20], codes=[0, 1]), 1)
    check.check(columns([21], codes=[1]), 2)
    check.opened([0, 1, 2], connection=2, now_s=7.0)
    assert [state.unheard for state in check.by_code] == [Unheard(10, 7.0), None, None]
    check.check(columns([11]), 2)
    assert check.by_code[0].unheard is None


def test_trades_listed_of_an_unheard_symbol_are_missing() -> None:
    """The look goes on behind the last of them; the next on the connection is simply the next."""
    state = SymbolSequence()
    state.run(1, 10, TIME_US, connection=1)
    state.opened(2, 7.0)
    state.listed(10, 14, now_us=1)
    assert list(state.gaps) == [Gap(11, 14, 1)]
    assert (state.missing, state.unheard) == (4, Unheard(14, 7.0))
    assert state.run(15, 15, TIME_US + 9, connection=2)
    assert state.unheard is None


def test_what_was_listed_counts_for_nothing_once_the_connection_brings_more() -> None:
    """The answer was under way meanwhile."""
    state = SymbolSequence()
    state.run(1, 10, TIME_US, connection=1)
    state.opened(2, 7.0)
    state.run(11, 12, TIME_US + 1, connection=2)
    state.listed(10, 14, now_us=1)
    assert (state.last, state.missing) == (12, 0)


def test_a_healed_trade_that_its_connection_brings_late_is_no_counter_begun_anew() -> None:
    """REST was faster: other gaps are not forgotten for it."""
    state = SymbolSequence()
    state.run(1, 8, TIME_US, connection=1)
    state.step(10, TIME_US, 0, 1)
    state.opened(2, 7.0)
    state.listed(10, 12, now_us=1)
    state.heal([11, 12], newest_us=TIME_US + 5)
    assert state.step(12, TIME_US + 5, 0, 2) is Step.OVERLAP
    assert [(gap.first, gap.last) for gap in state.gaps] == [(9, 9)]
