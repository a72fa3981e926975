"""The healer against an exchange that refuses, fails, forgets and never had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from libs.market.clock import SystemClock
from libs.market.errors import InvalidError, UnavailableError
from libs.runtime.backoff import Backoff
from libs.runtime.mailbox import Mailbox
from services.ingestor.healing.budget import HISTORICAL_TRADES_WEIGHT
from services.ingestor.healing.healer import Healer, HealingRules
from services.ingestor.healing.plan import MOST_ROWS
from services.ingestor.healing.rest import Answer, RestTrade, TradesApi, read
from services.ingestor.publishing.messages import Healed, Listed, Message, NeverWere
from services.ingestor.publishing.missed import OpenGap, QuietSymbol
from services.ingestor.publishing.symbol_sequence import Gap, SymbolSequence
from tests.support.polling import eventually

SYMBOL = "BTCUSDT"


def trade(id_: int, price: str = "1.5") -> RestTrade:
    return RestTrade(id_, price, "2", 1_723_161_255_342_000, is_buyer_maker=True)


class Api(TradesApi):
    """Lists `ids`; first it gives what `script` says."""

    def __init__(self, *ids: int, script: tuple[Answer | Exception, ...] = ()) -> None:
        super().__init__("http://nowhere", "MICROSECOND", None)
        self.trades = {id_: trade(id_) for id_ in ids}
        self.script = list(script)
        self.asked: list[tuple[int, int]] = []

    async def historical_trades(self, symbol: str, from_id: int, limit: int) -> Answer:
        self.asked.append((from_id, limit))
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            return step
        found = [self.trades[id_] for id_ in sorted(self.trades) if id_ >= from_id]
        return Answer(200, tuple(found[:limit]), used_weight=25 * len(self.asked))


@dataclass
class World:
    """A healer, and a publisher's sequence state that takes what it brings."""

    api: Api
    refusals: list[Exception] = field(default_factory=list)
    held_because: str = ""
    most_weight: int = 6_000
    quiet_after_s: float = 0
    declared: list[tuple[int, int]] = field(default_factory=list)
    brought: list[int] = field(default_factory=list)
    state: SymbolSequence = field(default_factory=SymbolSequence)
    mailbox: Mailbox[Message] = field(default_factory=lambda: Mailbox("publisher", 8))

    def __post_init__(self) -> None:
        self.healer = Healer(
            self.api,
            HealingRules(
                0,
                most_weight=self.most_weight,
                backoff=Backoff(0.01, 0.01),
                quiet_after_s=self.quiet_after_s,
            ),
            gaps=lambda: [OpenGap(0, SYMBOL, gap) for gap in self.state.gaps],
            quiet=self.quiet,
            held_because=lambda: self.held_because,
            publisher=self.mailbox,
            declare=self.declare,
            clock=SystemClock(),
        )

    async def declare(self, symbol: str, first: int, last: int) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.declared.append((first, last))

    def quiet(self) -> list[QuietSymbol]:
        unheard = self.state.unheard
        return [] if unheard is None else [QuietSymbol(0, SYMBOL, unheard)]

    def looks(self) -> list[int]:
        """From which ids quiet symbols were asked for: a gap asks for no more than it needs."""
        return [from_id for from_id, limit in self.api.asked if limit == MOST_ROWS]

    def gap(self, first: int, last: int) -> None:
        self.state.missing += last - first + 1
        self.state.gaps.append(Gap(first, last, 0))

    async def publish(self) -> None:
        while True:
            match await self.mailbox.get():
                case Healed(_, trades):
                    wanted = self.state.heal(trades.ids.tolist(), int(trades.times_us.max()))
                    self.brought += [i for i, w in zip(trades.ids, wanted, strict=True) if w]
                case NeverWere(_, first, last):
                    self.state.close(first, last)
                case Listed(_, after, last):
                    self.state.listed(after, last, now_us=0)

    @asynccontextmanager
    async def healing(self) -> AsyncIterator[None]:
        await self.healer.start()
        tasks = [asyncio.create_task(self.healer.run()), asyncio.create_task(self.publish())]
        try:
            yield
        finally:
            await self.healer.stop()
            await tasks[0]
            tasks[1].cancel()
            await self.healer.close()


async def test_gaps_are_filled_page_by_page_and_holes_declared() -> None:
    """What the exchange skips is closed; the pages of a long gap follow each other."""
    world = World(Api(*range(1, 1_500), *range(1_502, 3_001)))
    world.gap(10, 2_500)
    async with world.healing():
        await eventually(lambda: world.state.missing == 0)
    assert sorted(world.brought) == [*range(10, 1_500), *range(1_502, 2_501)]
    assert world.declared == [(1_500, 1_501)]
    assert world.api.asked[0] == (9, 1_000)


async def test_failures_and_refusals_are_followed_by_another_try() -> None:
    """Nothing there, then a 429 without a time to wait for, then trades."""
    script = (
        UnavailableError("no exchange"),
        Answer(500, problem="500"),
        Answer(429, retry_after_s=0, problem="429", for_all=True),
    )
    world = World(Api(*range(1, 30), script=script))
    world.gap(10, 12)
    async with world.healing():
        await eventually(lambda: world.state.missing == 0)
    assert world.brought == [10, 11, 12]
    assert world.declared == []


async def test_what_brings_no_answer_costs_weight_too() -> None:
    """An exchange that counts requests and answers with rubbish is not asked without end."""
    world = World(Api(*range(1, 30), script=(UnavailableError("rubbish"),)))
    world.gap(10, 12)
    with pytest.raises(UnavailableError):
        await world.healer._request(SYMBOL, 9, 5)
    assert world.healer.budget.used == HISTORICAL_TRADES_WEIGHT
    assert world.healer.requests == 1


async def test_a_long_gap_is_left_where_the_budget_ends() -> None:
    """Page by page it is looked at: what others on this address use counts too."""
    world = World(Api(*range(1, 5_000)), most_weight=50)
    await world.healer._heal(OpenGap(0, SYMBOL, Gap(10, 4_000, 0)))
    assert len(world.api.asked) == 2
    assert "50 of 50" in world.healer.waits_because


async def test_a_hole_that_nobody_records_stays_open_and_says_so() -> None:
    """Until the writer takes it: a table that has no trade of the symbol yet refuses."""
    world = World(Api(*range(1, 10), *range(13, 20)))
    world.refusals = [InvalidError("there is: none", field="symbol")] * 3
    world.gap(10, 12)
    async with world.healing():
        await eventually(lambda: "there is: none" in world.healer.reason(0, 10))
        await eventually(lambda: world.state.missing == 0)
    assert (world.brought, world.declared) == ([], [(10, 12)])


async def test_an_exchange_that_forgot_leaves_the_gap_open() -> None:
    """REST begins after the trade before the gap: what it does not list may have been."""
    world = World(Api(*range(12, 20)))
    world.gap(10, 13)
    async with world.healing():
        await eventually(lambda: world.brought == [12, 13])
        await eventually(lambda: "no trade before 12" in world.healer.reason(0, 10))
    assert [(gap.first, gap.last) for gap in world.state.gaps] == [(10, 11)]
    assert world.declared == []


async def test_a_trade_the_table_cannot_hold_is_named_and_the_rest_is_brought() -> None:
    """It stays a gap."""
    world = World(Api(*range(1, 20)))
    world.api.trades[11] = trade(11, price="1e40")
    world.gap(10, 12)
    async with world.healing():
        await eventually(lambda: "trade 11 does not fit" in world.healer.reason(0, 11))
        await eventually(lambda: world.state.missing == 1)
    assert world.brought == [10, 12]


async def test_nothing_is_asked_while_kafka_has_enough_to_take() -> None:
    """Healed trades would only lengthen the spool."""
    world = World(Api(*range(1, 20)), held_because="Kafka first")
    world.gap(10, 12)
    async with world.healing():
        await asyncio.sleep(0)
        assert world.healer.waits_because == "Kafka first"
        assert world.api.asked == []
        world.held_because = ""
        await eventually(lambda: world.state.missing == 0)


async def test_a_symbol_quiet_since_the_start_is_looked_up() -> None:
    """What it traded while nobody listened is healed without waiting for it to trade again."""
    world = World(Api(*range(1, 1_300), script=(UnavailableError("no"), Answer(502))))
    world.state.resume(40, (), now_us=0)
    world.state.opened(1, now_s=0)
    async with world.healing():
        await eventually(lambda: world.brought == list(range(41, 1_300)))
        await eventually(lambda: world.api.asked[-1][0] == 1_299)
    assert (world.state.missing, world.state.before) == (0, 1_299)


async def test_a_symbol_quiet_since_a_connection_opened_is_looked_up_each_time() -> None:
    """Once a connection: what it traded before the last one opened is healed too."""
    world = World(Api(*range(1, 45)))
    world.state.run(1, 40, 0, connection=1)
    world.state.opened(2, now_s=0)
    async with world.healing():
        await eventually(lambda: world.brought == [41, 42, 43, 44])
        await eventually(lambda: world.looks() == [40, 44])
        world.api.trades[45] = trade(45)
        world.state.opened(3, now_s=1)
        await eventually(lambda: world.brought[-1] == 45)
        await eventually(lambda: world.looks() == [40, 44, 44, 45])


async def test_a_symbol_is_given_time_to_trade_on_a_new_connection() -> None:
    """Of a thousand symbols most have by then, and need no look."""
    world = World(Api(*range(1, 45)), quiet_after_s=3_600)
    world.state.run(1, 40, 0, connection=1)
    world.state.opened(2, SystemClock().monotonic_s())
    assert world.healer._next_quiet() is None
    world.state.opened(3, SystemClock().monotonic_s() - 3_600)
    assert world.healer._next_quiet() is not None


async def test_a_look_that_is_refused_is_not_repeated_and_says_why() -> None:
    """Another connection's is: until then the symbol's next trade must tell."""
    world = World(Api(script=(read(400, {}, b'{"code":-1121,"msg":"Invalid symbol."}'),)))
    world.state.run(1, 40, 0, connection=1)
    world.state.opened(2, now_s=0)
    quiet = world.healer._next_quiet()
    assert quiet is not None
    with capture_logs() as said:
        await world.healer._look_up(quiet)
    assert world.healer._next_quiet() is None
    assert "Invalid symbol" in said[0]["error"]


async def test_a_look_heals_from_the_exchanges_first_trade_on() -> None:
    """Of a symbol whose beginning alone is known: no trade stands before it."""
    world = World(Api(*range(5)))
    world.state.resume(-1, (), now_us=0)
    world.state.opened(1, now_s=0)
    async with world.healing():
        await eventually(lambda: world.brought == list(range(5)))


async def test_a_look_that_any_symbol_were_refused_rests_for_all() -> None:
    """A thousand would cost their weight, and say it a thousand times; one is tried again."""
    world = World(Api(script=(read(401, {}, b'{"code":-2015,"msg":"no key"}'),)))
    world.state.run(1, 40, 0, connection=1)
    world.state.opened(2, now_s=0)
    (quiet,) = world.quiet()
    other = replace(quiet, code=1, symbol="ETHUSDT")
    world.healer._quiet = lambda: [quiet, other]
    await world.healer._look_up(quiet)
    assert world.healer._next_quiet() is None
    world.healer._look_up_from_s = 0
    assert world.healer._next_quiet() == quiet


async def test_an_exchange_that_counts_anew_makes_no_gap_of_a_quiet_symbol() -> None:
    """It does not list the newest trade known."""
    world = World(Api(*range(5_000, 5_100)))
    world.state.resume(40, (), now_us=0)
    world.state.opened(1, now_s=0)
    async with world.healing():
        await eventually(lambda: world.api.asked)
    assert (world.state.missing, world.state.before) == (0, 40)
    assert world.mailbox.depth == 0


async def test_a_firewall_stops_all_healing_for_a_while() -> None:
    """No other gap and no quiet symbol is asked for; who looks is told why."""
    world = World(Api(*range(1, 30), script=(read(403, {}, b"<html>"),)))
    world.gap(10, 12)
    world.gap(15, 16)
    async with world.healing():
        await eventually(lambda: world.healer.waits_because)
        assert "403" in world.healer.waits_because
    assert world.healer.budget.wait_s(world.healer._now_s()) > 30
    assert len(world.api.asked) == 1
