"""A K2 of its own to do harm to, with everything that watches it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from libs.degradation.level import Level
from libs.degradation.policy import Priority, load_policy
from libs.kafka.client import start_producer, stop_client
from libs.kafka.topics import TRADES_BINANCE
from libs.market.errors import K2Error, UnavailableError
from libs.runtime.doors import Door
from libs.runtime.restarts import RestartPolicy
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import register_trades
from tools.chaos.asker import Asker
from tools.chaos.flood import ALL_SYMBOLS, EXCHANGE, Flood
from tools.chaos.scale import MIB, POLICY, Scale
from tools.chaos.sights import Sight
from tools.chaos.story import Kind, Story
from tools.chaos.watch import Watch
from tools.cli.parts.fleet import Fleet, Layout, Plan, raise_failure, running
from tools.cli.session.source import Source
from tools.process.cgroups import memory_cgroups
from tools.simulator import truth
from tools.simulator.truth import ExpectedTrades

# Each service may be killed once and more; a part that does not stay up is still told.
RESTARTS = RestartPolicy(max_restarts=20)
# An hour at its own pace: longer than any run, which ends it by a pause.
SESSION_S = 3_600.0
POLL_S = 0.1
ASKED = ("BTCUSDT", "SHIBUSDT", "DOGEUSDT")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run stands on."""

    layout: Layout
    scale: Scale
    seed: int = 7
    trades_per_second: float = 500.0
    writers: int = 1
    governors: int = 1

    @property
    def source(self) -> Source:
        return Source(self.seed, 20, SESSION_S, self.trades_per_second)

    @property
    def faults(self) -> Path:
        """Where processes read what a test, or a run, orders of them."""
        return self.layout.root / "faults"

    def cgroups(self) -> AbstractContextManager[Mapping[str, Path]]:
        """Make a cgroup for each writer, where the scale wants its limit to be the kernel's.

        Raises:
            UnavailableError: none can be made here.
        """
        limit_mib = self.scale.writer_limit_mib
        if not self.scale.cgroup or limit_mib is None:
            return nullcontext({})
        names = [f"writer-{number + 1}" for number in range(self.writers)]
        return memory_cgroups("k2-chaos", names, limit_mib * MIB)

    def plan(self, on_step: Callable[[str], None], confined: Mapping[str, Path]) -> Plan:
        return Plan(
            self.layout,
            self.source.exchange(),
            self.scale.flush_after_s,
            restarts=RESTARTS,
            variables={"K2_FAULT_DIR": str(self.faults)},
            service_variables=self.scale.variables(),
            confined=confined,
            writers=self.writers,
            governors=self.governors,
            on_step=on_step,
        )


@dataclass(slots=True)
class Ground:
    """The running K2, its watch, its askers, and the flood that can be let loose on it."""

    setting: Setting
    fleet: Fleet
    watch: Watch
    asker: Asker
    flood: Flood
    story: Story

    @property
    def sight(self) -> Sight:
        return self.watch.sight

    @property
    def query(self) -> str:
        return self.fleet.door("query").grpc or ""

    @property
    def exchange(self) -> Door:
        return self.fleet.door("simulator")

    async def until(self, holds: Callable[[Sight], bool], timeout_s: float, what: str) -> None:
        """Wait until what is seen is so.

        Raises:
            UnavailableError: it is not, in that time; the message has what was seen last.
        """
        began_s = time.monotonic()
        while not holds(self.sight):
            if time.monotonic() - began_s > timeout_s:
                raise UnavailableError(
                    f"not within {timeout_s:g} s: {what}; last seen: {in_words(self.sight)}"
                )
            await asyncio.sleep(POLL_S)

    async def until_normal(self, timeout_s: float) -> None:
        """Wait until the level is NORMAL again."""
        self.story.begins("waits for NORMAL, one level after the other")
        await self.until(lambda sight: sight.level is Level.NORMAL, timeout_s, "NORMAL")

    def produced(self) -> dict[str, ExpectedTrades]:
        """Return what the flood sent, by symbol."""
        return {s: self.flood.expected(s) for s in ALL_SYMBOLS if self.flood.sent.get(s)}

    def session_until(self, trades: int) -> dict[str, ExpectedTrades]:
        """Return what the exchange's session had traded after so many trades, by symbol."""
        return truth.expected(islice(iter(self.setting.source.session()), trades))


def tell_level(story: Story, sight: Sight) -> None:
    """Write a change of the level down, with what the governor says of it."""
    if sight.level is not None:
        governed = sight.governed
        said = governed.explanation.removeprefix(sight.level.name).lstrip(": ").partition(". ")[0]
        facts = {"level": sight.level.name, "lag": governed.lag, "causes": governed.causes}
        story.note(Kind.LEVEL, f"{sight.level.name}: {said}", **facts)


def in_words(sight: Sight) -> str:
    level = sight.level.name if sight.level is not None else "no level"
    return (
        f"{level}, {sight.governed.lag:,} records behind, {sight.written.open_records:,} put off,"
        f" {sight.committed_rows:,} rows in the table of {sight.log_end:,} records"
    )


def priorities() -> Mapping[str, Priority]:
    """Return the class of every symbol in a run, the session's and the flood's."""
    policy = load_policy(str(POLICY))
    symbols = (*Source(symbols=20, duration_s=1).session().symbols, *ALL_SYMBOLS)
    return {symbol: policy.priority_of(EXCHANGE, symbol) for symbol in symbols}


@asynccontextmanager
async def standing(
    setting: Setting,
    story: Story,
    *,
    on_step: Callable[[str], None],
    on_look: Callable[[Ground], None],
) -> AsyncIterator[Ground]:
    """Start everything, watch and ask all the time, and leave nothing behind.

    Raises:
        K2Error: a part did not start, or ended for good.
    """
    async with (
        fleet_of(setting, on_step) as (fleet, ended),
        flooding(setting, fleet) as flood,
    ):
        watch = Watch(lambda: fleet.doors().values(), lambda: fleet.bootstrap, TRADES_BINANCE)
        asker = Asker(lambda: fleet.door("query").grpc or "", (*ASKED, *ALL_SYMBOLS[::4]))
        ground = Ground(setting, fleet, watch, asker, flood, story)
        story.clock = lambda: watch.now_s
        watch.on_level = lambda sight: tell_level(story, sight)
        watch.on_look = lambda _: on_look(ground)
        around = [asyncio.create_task(watch.run()), asyncio.create_task(asker.run())]
        async with cut_short_by(first_failure(ended, around)):
            try:
                yield ground
            finally:
                for task in around:
                    task.cancel()
                await asyncio.wait(around)


@asynccontextmanager
async def fleet_of(
    setting: Setting, on_step: Callable[[str], None]
) -> AsyncIterator[tuple[Fleet, asyncio.Task[None]]]:
    """Start every part, each writer in a cgroup of its own where that is wanted."""
    with setting.cgroups() as confined:
        async with running(setting.plan(on_step, confined)) as started:
            yield started


@asynccontextmanager
async def cut_short_by(failure: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run the body; where `failure` raises meanwhile, cancel the body and raise that."""
    body = asyncio.current_task()
    watching = asyncio.create_task(failure)

    def cut_short(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and body is not None:
            body.cancel()

    watching.add_done_callback(cut_short)
    try:
        yield
    except asyncio.CancelledError:
        if watching.done() and not watching.cancelled():
            watching.result()
        raise
    finally:
        watching.remove_done_callback(cut_short)
        watching.cancel()


async def first_failure(ended: asyncio.Task[None], around: list[asyncio.Task[None]]) -> None:
    """Wait until the fleet or a watcher ends, and raise why."""
    done, _ = await asyncio.wait({ended, *around}, return_when=asyncio.FIRST_COMPLETED)
    if ended in done:
        raise_failure(ended)
    for task in done:
        task.result()


@asynccontextmanager
async def flooding(setting: Setting, fleet: Fleet) -> AsyncIterator[Flood]:
    """Give a producer of the fleet's Kafka."""
    registry = SchemaRegistry(setting.layout.data / "schemas.json")
    producer = await start_producer(fleet.bootstrap, "chaos-flood")
    try:
        schema_id = register_trades(registry, TRADES_BINANCE)
        yield Flood(producer, TRADES_BINANCE, schema_id, time.time_ns() // 1_000)
    finally:
        with suppress(K2Error):
            await stop_client(producer)
