"""One process at a time is started anew for its memory's sake."""

from __future__ import annotations

from dataclasses import replace

from libs.degradation.level import Level, Rules
from libs.degradation.messages import OwnReport, Report
from services.governor.deciding.govern import Standing, directive, govern
from services.governor.deciding.turns import LONGEST_TURN_S, Turn, next_turn
from services.governor.leading.leadership import Leader
from services.governor.leading.snapshots import restored, snapshot, taken_over
from services.governor.observing import fleet as fleets
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import GroupLag
from services.governor.record.records import Placed, decode, encode

TTL_S = 10.0
P3 = ("trades", 3)


def report(process: str, used: int = 960, *, wanted: bool = True, reads: bool = True) -> Report:
    own = OwnReport("k2-writer", {P3: 7} if reads else {}, 0, restart_wanted=wanted)
    level = Level.CIRCUIT_BREAK
    return Report("writer", process, used, 1_000, 100, level, level, Level.NORMAL, 0, own)


def fleet_of(*reports: Report, first_stream: int = 1) -> Fleet:
    fleet = Fleet()
    for stream, said in enumerate(reports, first_stream):
        fleet = fleets.report(fleet, stream, said, 0, 0)
    return fleet


A, B = report("writer-1"), report("writer-2", used=970)


def test_whoever_is_shortest_of_memory_is_first_and_alone() -> None:
    """The other waits, also while the first is away."""
    turn = next_turn(None, fleet_of(A, B), 0)
    assert turn == Turn("writer-2", 2, 0)
    assert next_turn(turn, fleet_of(A, B), 5) == turn
    away = fleets.close(fleet_of(A, B), 2, "writer-2", 5)
    assert next_turn(turn, away, 6) == turn
    forgotten = fleets.forget(away, TTL_S, 20)
    assert "writer-2" not in forgotten.members
    assert next_turn(turn, forgotten, 20) == turn


def test_the_next_one_has_its_turn_when_the_first_reads_again() -> None:
    """Back is who has partitions again, over a new connection."""
    turn = Turn("writer-2", 2, 0)
    back = replace(B, own=replace(B.own, restart_wanted=False))
    starting = replace(back, own=replace(back.own, positions={}))
    assert next_turn(turn, fleets.report(fleet_of(A, B), 3, starting, 9, 0), 9) == turn
    after = next_turn(turn, fleets.report(fleet_of(A, B), 3, back, 9, 0), 9)
    assert after == Turn("writer-1", 1, 9)


def test_who_does_not_come_back_is_not_waited_for_for_ever() -> None:
    """It may be gone for good."""
    turn = Turn("writer-2", 2, 0)
    alone = fleet_of(A)
    assert next_turn(turn, alone, LONGEST_TURN_S - 1) == turn
    assert next_turn(turn, alone, LONGEST_TURN_S) == Turn("writer-1", 1, LONGEST_TURN_S)


def test_a_turn_ends_unused_where_memory_recovers_by_itself() -> None:
    """And nobody has one who does not ask."""
    well = replace(B, own=replace(B.own, restart_wanted=False))
    assert next_turn(Turn("writer-2", 2, 0), fleet_of(A, well), 1) == Turn("writer-1", 1, 1)
    assert next_turn(None, fleet_of(well), 1) is None


def test_the_directive_of_one_process_alone_gives_the_turn() -> None:
    """With a sequence of its own; none in the first TTL: another governor may have given it."""
    sample, fleet = {"k2-writer": GroupLag("k2-writer", (), known=True)}, fleet_of(A, B)
    early = govern(Standing(Rules(), TTL_S, 1), sample, fleet, 0.0, 0)
    late = govern(early, sample, fleet, TTL_S + 1, 0)
    assert early.orders is not None
    assert late.orders is not None
    assert late.orders.sequence == early.orders.sequence + 1
    told = [directive(late, late.orders, said) for said in (A, B)]
    assert [one is not None and one.restart for one in told] == [False, True]
    assert not any(
        one is not None and one.restart
        for one in (directive(early, early.orders, said) for said in (A, B))
    )


def test_a_turn_outlives_its_governor() -> None:
    """Who has it may be away, to begin anew, when another governor takes over."""
    sample, fleet = {"k2-writer": GroupLag("k2-writer", (), known=True)}, fleet_of(A, B)
    state = Standing(Rules(), TTL_S, 1)
    for now_s in (0.0, TTL_S + 1):
        state = govern(state, sample, fleet, now_s, 0)
    said = decode(encode(snapshot("directive", state, fleet, Leader("g", "g:1", 1), 11.0)))
    assert said is not None
    after = taken_over(
        Standing(Rules(), TTL_S, 0), 9, restored([Placed(1, 0, said)]), now_s=50.0, now_us=0
    )
    for now_s in (50.0, 50.0 + TTL_S + 1):
        after = govern(after, sample, fleet_of(A), now_s, 0)
        assert after.orders is not None
        assert after.orders.restarting == "writer-2"
    back = replace(B, own=replace(B.own, restart_wanted=False))
    after = govern(after, sample, fleet_of(A, back), 62.0, 0)
    assert after.orders is not None
    assert after.orders.restarting == "writer-1"
