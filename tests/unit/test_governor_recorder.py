"""What a leader records, in which order, and what becomes of an operator's wish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from libs.degradation.level import Level, Rules
from libs.market.clock import SystemClock
from libs.market.errors import UnavailableError
from services.governor.board import Board
from services.governor.deciding.govern import Orders, Standing, govern
from services.governor.deciding.overrides import Override, make_override
from services.governor.leading import recorder as module
from services.governor.leading.leadership import Leadership
from services.governor.leading.recorder import Recorder
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import GroupLag
from services.governor.record.records import Placed, Record
from services.governor.record.topic import FencedError, Topic
from tests.support.polling import eventually

TTL_S = 0.25


class Log:
    """The topic in the test's hand: what is written, once the test lets it; or who is fenced."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.held_kind = ""
        self.waiting: Record | None = None
        self.fenced = False
        self.away = False
        self.slacks: list[float] = []
        self.left: list[Placed] = []

    def hold(self, kind: str) -> None:
        """Take no more of a kind from now on."""
        self.held_kind = kind
        self.takes.clear()

    async def held(self) -> None:
        await eventually(lambda: self.waiting, what=f"a {self.held_kind} that waits")

    async def open(self, topic: Topic, **_: object) -> Log:
        self.slacks.append(topic.slack)
        return self

    async def recent(self) -> list[Placed]:
        return self.left

    async def to_end(self) -> list[Placed]:
        return []

    async def more(self, _: float) -> list[Placed]:
        await asyncio.sleep(0)
        return []

    async def close(self) -> None: ...

    async def write(self, record: Record, *, timeout_s: float) -> int:
        if record.kind == self.held_kind:
            self.waiting = record
            await self.takes.wait()
        if self.fenced:
            raise FencedError("another governor has taken over")
        if self.away:
            self.away = False
            raise UnavailableError("Kafka did not take it")
        self.waiting = None
        self.records.append(record)
        return len(self.records)


class World:
    """A recorder whose controller is the test."""

    def __init__(self, log: Log) -> None:
        self.log, self.clock = log, SystemClock()
        self.blank = Standing(Rules(), TTL_S, epoch=0)
        self.board = Board.blank(self.blank, Leadership("governor-1", 0.1))
        self.recorder = Recorder(self.board, Topic("nowhere:1"), TTL_S, self.clock)

    @property
    def epoch(self) -> int:
        term = self.board.term.value
        return term.epoch if term else 0

    def order(self) -> Standing:
        """Order something, as the controller does."""
        sample = {"k2-writer": GroupLag("k2-writer", (), known=True)}
        blank = Standing(Rules(), TTL_S, self.epoch)
        standing = govern(blank, sample, Fleet(), self.clock.monotonic_s(), 0)
        self.board.standing.publish(standing)
        return standing

    def recorded(self) -> Orders | None:
        """Return what may be pushed."""
        recorded = self.board.recorded.value
        return recorded.orders if recorded else None

    async def said(self, kind: str, more_than: int = 0) -> list[Record]:
        """Wait until more records of a kind are written than there were."""

        def found() -> list[Record]:
            records = [record for record in self.log.records if record.kind == kind]
            return records if len(records) > more_than else []

        return await eventually(found, what=f"a {kind}")


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Run a recorder that leads."""
    async with leading(monkeypatch, Log()) as made:
        yield made


@asynccontextmanager
async def leading(monkeypatch: pytest.MonkeyPatch, log: Log) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "TopicReader", log)
    monkeypatch.setattr(module, "TopicWriter", log)
    made = World(log)
    running = asyncio.create_task(made.recorder.run())
    await eventually(lambda: made.board.leadership.value.leading)
    yield made
    log.takes.set()
    await made.recorder.stop()
    async with asyncio.timeout(60):
        await running


def wish(reason: str = "catalog upgrade") -> Override:
    return make_override(Level.SOFT, reason, 300.0, SystemClock().now_us())


async def test_nothing_is_pushed_before_it_is_recorded(world: World) -> None:
    """What the topic has not taken yet, no process is told."""
    world.log.hold("directive")
    orders = world.order().orders
    await world.log.held()
    assert orders is not None
    assert world.recorded() is None
    world.log.takes.set()
    (first, *_) = await world.said("directive")
    assert (first.epoch, first.sequence) == (world.epoch, 1)
    await eventually(lambda: world.recorded() == orders)


async def test_fenced_leader_leads_no_more_and_pushes_nothing(world: World) -> None:
    """From the moment on that its record is refused."""
    world.order()
    await world.said("directive")
    world.log.hold("sample")
    await world.log.held()
    world.log.fenced = True
    world.log.takes.set()
    await eventually(lambda: not world.board.leadership.value.leading)
    assert world.board.recorded.value is None


async def test_leader_that_claims_anew_records_what_it_orders_and_not_what_it_took_over(
    world: World,
) -> None:
    """Where the topic was made anew; the controller goes on with its next sample only."""
    world.order()
    await world.said("directive")
    world.board.fleet.publish(Fleet(newest_epoch=1_000))
    await world.said("claim", 1)
    before = len(await world.said("sample"))
    sample = (await world.said("sample", before))[-1]
    assert (sample.epoch > 1_000, sample.sequence) == (True, 1)


async def test_many_claims_hide_nothing_of_what_was_ordered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Governors that fell as soon as they led, a hundred times over."""
    log = Log()
    set_by = Record(kind="override", process="a", address="a:1", epoch=1, override=wish())
    claim = Record(kind="claim", process="b", address="b:1", epoch=1)
    log.left = [Placed(1, 0, set_by), *(Placed(2 + n, 0, claim) for n in range(100))]
    async with leading(monkeypatch, log) as world:
        term = world.board.term.value
        assert term is not None
        assert term.restored.override == set_by.override


async def test_kafka_away_now_and_then_is_not_taken_for_a_slow_one(world: World) -> None:
    """Only failures in a row, with no leading between, lengthen what is waited for it."""
    for _ in range(3):
        terms = len(await world.said("claim"))
        world.log.away = True
        await world.said("claim", terms)
    assert max(world.log.slacks) == 2.0


async def test_override_is_in_every_record_after_its_own(world: World) -> None:
    """Also in those before the controller has looked: the next leader takes it from the last."""
    wanted = wish()
    assert await world.recorder.override(wanted) is None
    samples = len(await world.said("sample"))
    after = await world.said("sample", samples)
    assert after[-1].override == wanted
    assert await world.recorder.override(None) == wanted
    samples = len(await world.said("sample"))
    assert (await world.said("sample", samples))[-1].override is None


async def test_wish_that_nobody_waits_for_any_more_is_not_granted(world: World) -> None:
    """The operator was told that it was not recorded in time."""
    world.log.hold("sample")
    await world.log.held()
    asking = asyncio.create_task(world.recorder.override(wish("too late")))
    await asyncio.sleep(0)
    asking.cancel()
    with suppress(asyncio.CancelledError, UnavailableError):
        await asking
    world.log.takes.set()
    await world.recorder.override(wish("in time"))
    granted = [record.override for record in await world.said("override")]
    assert [one.reason for one in granted if one] == ["in time"]
