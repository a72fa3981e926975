"""What a new process makes of the first trades after a restart, and of a stop with no room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from libs.degradation.level import Level
from libs.degradation.obedience import Applied
from libs.runtime.actor import Actor
from services.ingestor import control
from services.ingestor.control import Control, Intake
from services.ingestor.delivering import deliverer
from services.ingestor.delivering.records import Records
from services.ingestor.publishing import publisher
from services.ingestor.publishing.symbol_sequence import Step, SymbolSequence
from tests.support.polling import eventually
from tests.support.publishing import Middle, last_booked, middle
from tests.unit.test_ingestor_delivery import FakeKafka
from tests.unit.test_ingestor_publisher import TABLE, ids_in, received

BOOKED_US = 1_723_161_255_342_000


def resumed(last: int, *gaps: tuple[int, int]) -> SymbolSequence:
    state = SymbolSequence()
    state.resume(last, gaps, now_us=1, newest_us=BOOKED_US)
    return state


def spans(state: SymbolSequence) -> list[tuple[int, int]]:
    return [(gap.first, gap.last) for gap in state.gaps]


def test_a_trade_sent_again_first_of_all_forgets_no_gap() -> None:
    """It is passed on and counted; the next new one goes on from the book."""
    state = resumed(100, (40, 50), (60, 60))
    assert state.step(90, BOOKED_US - 5, 1, connection=1) is Step.REPEAT
    assert state.step(100, BOOKED_US, 1, connection=1) is Step.REPEAT
    assert spans(state) == [(40, 50), (60, 60)]
    assert state.step(101, BOOKED_US + 1, 1, connection=1) is Step.NEXT
    assert state.step(103, BOOKED_US + 2, 1, connection=1) is Step.GAP
    assert spans(state) == [(40, 50), (60, 60), (102, 102)]


def test_a_counter_begun_anew_is_told_by_its_new_times() -> None:
    """What was missing before cannot be told any more."""
    state = resumed(100, (40, 50))
    assert state.step(3, BOOKED_US + 1, 1, connection=1) is Step.RESTART
    assert spans(state) == []
    assert state.step(4, BOOKED_US + 2, 1, connection=1) is Step.NEXT


def test_what_the_spool_kept_may_come_again_with_times_the_book_does_not_know() -> None:
    """So may what REST has listed and brought."""
    state = resumed(100, (40, 50))
    state.resume_run(101, 120, now_us=1)
    assert state.step(110, BOOKED_US + 9, 1, connection=1) is Step.REPEAT
    assert spans(state) == [(40, 50)]
    assert state.step(121, BOOKED_US + 20, 1, connection=1) is Step.NEXT


async def test_a_beginning_is_booked_before_the_first_trades_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed from here on, the next process knows where the symbol began, and what it lacks."""
    monkeypatch.setattr(publisher, "BOOK_EVERY_S", 3_600)
    kafka = FakeKafka(room=100)
    between = await middle(kafka.open, TABLE, tmp_path)
    booked: list[int] = []
    put = between.backlog.put

    async def noted_put(records: Sequence[Records]) -> None:
        booked.append(last_booked(tmp_path))
        await put(records)

    monkeypatch.setattr(between.backlog, "put", noted_put)
    supervisor = between.supervisor()
    running = asyncio.create_task(supervisor.run())
    await between.publisher.mailbox.put(received(7, 8))
    await between.publisher.mailbox.put(received(9))
    await eventually(lambda: len(booked) == 2)
    assert booked == [6, 6]
    await supervisor.stop()
    await running
    await between.close()


async def test_no_page_is_made_while_a_checked_burst_is_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sequence knows of its trades already, and nobody keeps them yet."""
    monkeypatch.setattr(publisher, "BOOK_EVERY_S", 0.01)
    kafka = FakeKafka(room=100)
    between = await middle(kafka.open, TABLE, tmp_path)
    supervisor = between.supervisor()
    running = asyncio.create_task(supervisor.run())
    await between.publisher.mailbox.put(received(7, 8))
    await eventually(lambda: last_booked(tmp_path) == 8)
    looks, arrived, let_go = 0, asyncio.Event(), asyncio.Event()
    put, write_due = between.backlog.put, between.publisher._book.write_due

    async def held_put(records: Sequence[Records]) -> None:
        arrived.set()
        await let_go.wait()
        await put(records)

    async def counted_write(done: int) -> None:
        nonlocal looks
        looks += 1
        await write_due(done)

    monkeypatch.setattr(between.backlog, "put", held_put)
    monkeypatch.setattr(between.publisher._book, "write_due", counted_write)
    await between.publisher.mailbox.put(received(9))
    await arrived.wait()
    before = looks
    await eventually(lambda: looks >= before + 5)
    assert last_booked(tmp_path) == 8
    let_go.set()
    await eventually(lambda: last_booked(tmp_path) == 9)
    await supervisor.stop()
    await running
    await between.close()


async def test_what_a_stop_with_no_room_cuts_is_a_gap_to_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool is full and Kafka away: each trade is in Kafka at last, or missing by name."""
    monkeypatch.setattr(deliverer, "LAST_CHANCE_S", 0.05)
    kafka = FakeKafka(None, *["hold"] * 1_000, room=100)
    before = await middle(kafka.open, TABLE, tmp_path, most_bytes=2_000, spool_after_s=0)
    supervisor = before.supervisor()
    running = asyncio.create_task(supervisor.run())
    await before.publisher.mailbox.put(received(1, 2))
    await eventually(lambda: last_booked(tmp_path) == 2)
    bringing = asyncio.create_task(bring(before, range(3, 60)))
    await eventually(lambda: before.backlog.full)
    bringing.cancel()
    running.cancel()
    await asyncio.wait({bringing, running})
    await keep_and_close(before)
    fresh = FakeKafka(room=100)
    after = await middle(fresh.open, TABLE, tmp_path)
    await after.publisher.mailbox.put(received(100))
    stopping = after.supervisor()
    going = asyncio.create_task(stopping.run())
    await eventually(lambda: 100 in ids_in(fresh))
    gaps = {
        id_
        for open_gap in after.publisher.open_gaps()
        for id_ in range(open_gap.gap.first, open_gap.gap.last + 1)
    }
    kept = {*ids_in(kafka), *ids_in(fresh)}
    await stopping.stop()
    await going
    await after.close()
    assert gaps
    assert kept | gaps == set(range(1, 101))
    assert not kept & gaps


async def test_free_memory_is_given_back_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes milliseconds in which nothing else would go on."""
    threads: list[str] = []
    monkeypatch.setattr(
        control, "give_back", lambda: threads.append(threading.current_thread().name)
    )
    actor = Control(Intake(), spool_full=lambda: True)
    actor.bear(Applied(lag_level=Level.NORMAL, memory_level=Level.CIRCUIT_BREAK))
    assert threads == []
    await run_until(actor, lambda: bool(threads))
    assert threads[0].startswith("give-back")


async def test_control_that_failed_works_when_it_is_started_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it closed it opens again: a supervisor starts the same actor."""
    given_back: list[bool] = []
    fails = iter((True, False))

    def give_back() -> None:
        if next(fails):
            raise OSError("no memory for that")
        given_back.append(True)

    monkeypatch.setattr(control, "give_back", give_back)
    actor = Control(Intake(), spool_full=lambda: True)
    short = Applied(lag_level=Level.NORMAL, memory_level=Level.CIRCUIT_BREAK)
    actor.bear(short)
    await actor.start()
    with pytest.raises(OSError, match="no memory"):
        await actor.run()
    await actor.close()
    actor.bear(Applied())
    actor.bear(short)
    await run_until(actor, lambda: bool(given_back))


async def run_until(actor: Actor, done) -> None:  # type: ignore[no-untyped-def]
    await actor.start()
    running = asyncio.create_task(actor.run())
    await eventually(done)
    await actor.stop()
    await running
    await actor.close()


async def bring(between: Middle, ids: range) -> None:
    for id_ in ids:
        await between.publisher.mailbox.put(received(id_))


async def keep_and_close(between: Middle) -> None:
    """End as a process does whose stop was cut."""
    await between.close()
