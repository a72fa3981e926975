"""Between the publisher and Kafka: memory, spool, book, and when nothing is taken."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from libs.degradation.level import Level
from libs.degradation.obedience import Applied
from libs.runtime.supervisor import RestartIntensityError
from services.ingestor.control import Control, Intake
from services.ingestor.delivering import deliverer
from services.ingestor.publishing import bookkeeping
from services.ingestor.publishing.book import Page, Pages, SymbolPage, read_book, write_book
from services.ingestor.publishing.bookkeeping import Bookkeeping
from services.ingestor.publishing.messages import Ended
from services.ingestor.publishing.symbol_sequence import SymbolSequence
from services.ingestor.spool.spool import SpoolFullError
from tests.support.binance import table
from tests.support.polling import eventually
from tests.support.publishing import Middle, last_booked, middle
from tests.unit.test_ingestor_delivery import FakeKafka
from tests.unit.test_ingestor_publisher import TABLE, ids_in, received


async def stopped(between: Middle) -> None:
    """Start the parts, stop them in order, and leave the folder as it is then."""
    supervisor = between.supervisor()
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: supervisor.started)
    await supervisor.stop()
    await running
    await between.close()


def failures() -> float:
    return REGISTRY.get_sample_value("k2_ingestor_book_failures_total") or 0


def held() -> FakeKafka:
    """A Kafka that takes batches and never says so."""
    return FakeKafka(*["hold"] * 1_000, room=100)


async def test_what_a_silent_kafka_does_not_take_is_the_next_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory or in files, all of it goes to the next one's Kafka, in order and once."""
    before = await middle(held().open, TABLE, tmp_path, spool_after_s=0)
    for first in range(1, 25, 3):
        await before.publisher.mailbox.put(received(first, first + 1, first + 2))
    with monkeypatch.context() as impatient:
        impatient.setattr(deliverer, "LAST_CHANCE_S", 0.05)
        await stopped(before)
    kafka = FakeKafka(room=100)
    after = await middle(kafka.open, TABLE, tmp_path)
    assert after.found.records == 24
    await after.publisher.mailbox.put(received(25, 26))
    await stopped(after)
    assert ids_in(kafka) == list(range(1, 27))
    assert after.publisher.open_gaps() == []


async def test_what_no_disk_takes_at_the_end_is_not_said_to_be_in_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is lost with the process, so that its successor must see a gap and fetch it."""
    monkeypatch.setattr(deliverer, "LAST_CHANCE_S", 0.05)
    kafka = FakeKafka(None, *["hold"] * 1_000, room=100)
    before = await middle(kafka.open, TABLE, tmp_path)
    supervisor = before.supervisor()
    running = asyncio.create_task(supervisor.run())
    await before.publisher.mailbox.put(received(7, 8))
    await eventually(lambda: last_booked(tmp_path) == 8)
    await before.publisher.mailbox.put(received(9, 10))
    await eventually(lambda: kafka.held)
    monkeypatch.setattr(before.spool, "put_first", _no_disk)
    await supervisor.stop()
    with pytest.raises(RestartIntensityError, match="no space"):
        await running
    await before.close()
    assert last_booked(tmp_path) == 8


def _no_disk(_: object) -> None:
    raise SpoolFullError("no space left", folder="")


async def test_a_full_spool_makes_the_publisher_wait_and_drops_nothing(tmp_path: Path) -> None:
    """Its sender waits in turn; with Kafka back everything arrives."""
    kafka = held()
    between = await middle(kafka.open, TABLE, tmp_path, most_bytes=2_000, spool_after_s=0)
    supervisor = between.supervisor()
    running = asyncio.create_task(supervisor.run())
    sending = asyncio.create_task(_send(between, bursts=40))
    await eventually(lambda: between.backlog.full)
    assert not sending.done()
    assert between.spool.size_bytes <= 2_000
    kafka.script.clear()
    kafka.release()
    await sending
    await eventually(lambda: len(kafka.log) == 40)
    await eventually(lambda: not between.backlog.full)
    await supervisor.stop()
    await running
    await between.close()
    assert ids_in(kafka) == list(range(40))


async def test_a_disk_that_took_nothing_is_forgotten_once_kafka_takes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing in files the spool is not full: a full one would stop the intake."""
    kafka = FakeKafka("hold", room=100)
    between = await middle(kafka.open, TABLE, tmp_path, spool_after_s=0.05)
    monkeypatch.setattr(between.spool, "append", _no_disk)
    supervisor = between.supervisor()
    running = asyncio.create_task(supervisor.run())
    await between.publisher.mailbox.put(received(1))
    await eventually(lambda: between.backlog._silent_s() > 0.05)
    await between.publisher.mailbox.put(received(2))
    await eventually(lambda: between.backlog.full)
    kafka.release()
    await eventually(lambda: len(kafka.log) == 2)
    await eventually(lambda: not between.backlog.full)
    await supervisor.stop()
    await running
    await between.close()
    assert ids_in(kafka) == [1, 2]


async def _send(between: Middle, bursts: int) -> None:
    for number in range(bursts):
        await between.publisher.mailbox.put(received(number))
    await between.publisher.mailbox.put(Ended(1))


async def test_the_book_says_what_kafka_has_and_no_more(tmp_path: Path) -> None:
    """Not acknowledged is not there; a symbol of which nothing is yet begins before its first."""
    kafka = FakeKafka(None, "hold", room=100)
    between = await middle(kafka.open, TABLE, tmp_path)
    supervisor = between.supervisor()
    running = asyncio.create_task(supervisor.run())
    await between.publisher.mailbox.put(received(7, 8))
    await eventually(lambda: len(kafka.log) == 2)
    await eventually(lambda: last_booked(tmp_path) == 8)
    await between.publisher.mailbox.put(received(9))
    await eventually(lambda: kafka.held)
    assert last_booked(tmp_path) == 8
    kafka.release()
    await supervisor.stop()
    await running
    await between.close()
    assert last_booked(tmp_path) == 9


def page(last: int) -> Page:
    return {"A": SymbolPage(last)}


def test_pages_count_once_kafka_has_what_came_before_them() -> None:
    """The newest of those counts; of very many waiting some are left out."""
    pages = Pages()
    for accepted in range(1, 200):
        pages.make(accepted, 0, partial(page, accepted))
        pages.make(accepted, 0, partial(page, -1))
    assert pages.due(0) is None
    found = pages.due(100)
    assert found is not None
    assert 50 < found["A"].last <= 100
    assert pages.due(100) is None
    assert pages.due(199) == {"A": SymbolPage(199)}


def test_a_book_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    """It says so and goes on."""
    assert read_book(tmp_path) == {}
    write_book(tmp_path, {"A": SymbolPage(5, ((1, 2),))})
    assert read_book(tmp_path) == {"A": SymbolPage(5, ((1, 2),))}
    (tmp_path / "book.json").write_text("{")
    assert read_book(tmp_path) == {}


async def test_a_book_that_a_disk_did_not_take_is_written_later(tmp_path: Path) -> None:
    """Though nothing new came meanwhile; each refusal counts, one sentence says it."""
    folder = tmp_path / "away"
    state = SymbolSequence()
    book = Bookkeeping(table("BTCUSDT"), [state], folder)
    before = failures()
    state.step(7, 1, 1, connection=1)
    with capture_logs() as said:
        await book.write_due(0)
        await book.write_due(0)
    assert [line["event"] for line in said] == ["book_not_written"]
    assert failures() == before + 2
    folder.mkdir()
    await book.write_due(0)
    assert read_book(folder) == {"BTCUSDT": SymbolPage(6)}
    book.close()


async def test_a_disk_that_hangs_holds_up_one_beginning_and_not_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has come back they are written before their trades go on, as ever."""
    let_go, writes = threading.Event(), 0

    def hanging_write(folder: Path, page: Page) -> None:
        nonlocal writes
        writes += 1
        let_go.wait(60)
        write_book(folder, page)

    monkeypatch.setattr(bookkeeping, "write_book", hanging_write)
    monkeypatch.setattr(bookkeeping, "HANGS_AFTER_S", 0.01)
    states = [SymbolSequence(), SymbolSequence()]
    book = Bookkeeping(table("BTCUSDT", "ETHUSDT"), states, tmp_path)
    states[0].step(7, 1, 1, connection=1)
    await book.write_beginnings(0)
    states[1].step(70, 1, 1, connection=1)
    monkeypatch.setattr(bookkeeping, "HANGS_AFTER_S", 3_600)
    await book.write_beginnings(0)
    assert writes <= 1
    let_go.set()
    await book.write_due(0)
    assert read_book(tmp_path) == {"BTCUSDT": SymbolPage(6), "ETHUSDT": SymbolPage(69)}
    book.close()


def test_only_its_own_memory_at_circuit_break_with_a_full_spool_stops_it() -> None:
    """Lag never does, nor a full spool alone, nor a lower level."""
    full = False
    intake = Intake()
    control = Control(intake, spool_full=lambda: full)
    for lag, memory, is_full, taking in (
        (Level.CIRCUIT_BREAK, Level.AGGRESSIVE, True, True),
        (Level.NORMAL, Level.CIRCUIT_BREAK, False, True),
        (Level.NORMAL, Level.CIRCUIT_BREAK, True, False),
        (Level.NORMAL, Level.AGGRESSIVE, True, True),
        (Level.CIRCUIT_BREAK, Level.CIRCUIT_BREAK, True, False),
        (Level.CIRCUIT_BREAK, Level.CIRCUIT_BREAK, False, True),
    ):
        full = is_full
        control.bear(Applied(lag_level=lag, memory_level=memory))
        assert intake.taking is taking
    assert intake.stops == 2
