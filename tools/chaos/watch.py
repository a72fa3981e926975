"""Looks at a running K2 a few times a second, over the doors that anyone may use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import aiohttp
import grpc
from aiokafka import AIOKafkaConsumer
from k2.governor.v1 import governor_pb2 as governing
from k2.governor.v1.governor_pb2_grpc import GovernorServiceStub
from k2.ingestor.v1 import ingestor_pb2
from k2.ingestor.v1.ingestor_pb2_grpc import IngestorServiceStub
from k2.query.v1 import query_pb2
from k2.query.v1.query_pb2_grpc import QueryServiceStub
from k2.writer.v1 import backfill_pb2, writer_pb2
from k2.writer.v1.writer_pb2_grpc import WriterServiceStub

from libs.degradation.level import Level
from libs.kafka.admin import end_offsets
from libs.kafka.client import start_consumer, stop_client
from libs.market.errors import K2Error
from libs.rpc.client import call, channel
from libs.runtime.doors import Door
from tools.chaos.sights import (
    Governed,
    Levels,
    ProcessSight,
    Received,
    Sight,
    Totals,
    Written,
    counters_in,
)

LOOK_EVERY_S = 0.2
COUNT_EVERY_S = 1.0
ASK_TIMEOUT_S = 2.0
MOST_FEEDS = 10_000
SHED, BACKFILLED = "k2_writer_shed_records", "k2_writer_backfilled_records"

Doors = Callable[[], Iterable[Door]]


@dataclass(slots=True)
class Watch:
    """The newest sight, and the levels that were shown: the higher of both, and memory's alone.

    `on_look` is told of each sight, `on_level` of one with another level than before.
    """

    doors: Doors
    bootstrap: Callable[[], str]
    topic: str
    on_look: Callable[[Sight], None] = field(default=lambda _: None)
    on_level: Callable[[Sight], None] = field(default=lambda _: None)
    sight: Sight = field(default_factory=lambda: Sight(0.0))
    levels: Levels = field(default_factory=Levels)
    memory_levels: Levels = field(default_factory=Levels)
    began_s: float = field(default_factory=time.monotonic)
    _shed: Totals = field(default_factory=Totals)
    _backfilled: Totals = field(default_factory=Totals)
    _channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    @property
    def now_s(self) -> float:
        """Seconds since the watch began."""
        return time.monotonic() - self.began_s

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look_again_and_again())
                tasks.create_task(self._ask_writers_again_and_again())
                tasks.create_task(self._count_again_and_again())
                tasks.create_task(self._read_the_log())
        finally:
            await asyncio.gather(*(one.close() for one in self._channels.values()))

    async def _look_again_and_again(self) -> None:
        while True:
            governed = await self._governed()
            self._publish(governed=governed or replace(self.sight.governed, level=None))
            if self.sight.level is not None:
                self.memory_levels.take(self.sight.at_s, self.sight.governed.memory_level)
            if self.levels.take(self.sight.at_s, self.sight.level):
                self.on_level(self.sight)
            self.on_look(self.sight)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _ask_writers_again_and_again(self) -> None:
        """Ask beside the governor: a writer that is slow to answer is not to hide a level."""
        while True:
            written = await self._written()
            if written is not None:
                self._publish(written=written)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _count_again_and_again(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            while True:
                for ask in (self._rows, self._feeds):
                    with suppress(K2Error):
                        await ask()
                for door in self._of("writer"):
                    await self._counters(client, door)
                await asyncio.sleep(COUNT_EVERY_S)

    async def _read_the_log(self) -> None:
        """Keep the log's end current, as long as Kafka answers."""
        while True:
            with suppress(K2Error, TimeoutError, OSError):
                consumer = await start_consumer(self.bootstrap(), "chaos-watch")
                try:
                    await self._follow_end(consumer)
                finally:
                    with suppress(K2Error):
                        await stop_client(consumer)
            await asyncio.sleep(COUNT_EVERY_S)

    async def _follow_end(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                ends = await end_offsets(consumer, self.topic)
            self._publish(log_end=sum(ends.values()))
            await asyncio.sleep(LOOK_EVERY_S)

    def _publish(self, **changes: object) -> None:
        self.sight = replace(self.sight, at_s=self.now_s, **changes)  # type: ignore[arg-type]

    def _of(self, service: str) -> list[Door]:
        return [door for door in self.doors() if door.service == service]

    def _channel(self, door: Door) -> grpc.aio.Channel:
        address = door.grpc or ""
        if address not in self._channels:
            self._channels[address] = channel(address)
        return self._channels[address]

    async def _governed(self) -> Governed | None:
        """Ask every governor; of those that know a level, the one of the newest epoch leads."""
        answers = await asyncio.gather(*map(self._state, self._of("governor")))
        found = [answer for answer in answers if answer is not None]
        return max(found, key=lambda one: (one.level is not None, one.epoch), default=None)

    async def _state(self, door: Door) -> Governed | None:
        stub = GovernorServiceStub(self._channel(door))
        try:
            request = governing.GetStateRequest()
            return governed_of((await call(stub.GetState, request, timeout_s=ASK_TIMEOUT_S)).state)
        except K2Error:
            return None

    async def _written(self) -> Written | None:
        """Add the writers up; none where one of them does not answer, for half is not the whole."""
        answers = await asyncio.gather(*map(self._writer, self._of("writer")))
        found = [answer for answer in answers if answer is not None]
        return added_up(found) if found and len(found) == len(answers) else None

    async def _writer(self, door: Door) -> Written | None:
        stub = WriterServiceStub(self._channel(door))
        try:
            status, owed = await asyncio.gather(
                call(stub.GetStatus, writer_pb2.GetStatusRequest(), timeout_s=ASK_TIMEOUT_S),
                call(stub.GetBackfill, backfill_pb2.GetBackfillRequest(), timeout_s=ASK_TIMEOUT_S),
            )
        except K2Error:
            return None
        return written_of(status, owed)

    async def _rows(self) -> None:
        for door in self._of("query"):
            stub = QueryServiceStub(self._channel(door))
            status = await call(
                stub.GetStatus, query_pb2.GetStatusRequest(), timeout_s=ASK_TIMEOUT_S
            )
            self._publish(committed_rows=status.committed_rows, tail_rows=status.tail_rows)

    async def _feeds(self) -> None:
        for door in self._of("ingestor"):
            stub = IngestorServiceStub(self._channel(door))
            request = ingestor_pb2.ListFeedsRequest(page_size=MOST_FEEDS)
            found = await call(stub.ListFeeds, request, timeout_s=ASK_TIMEOUT_S)
            self._publish(received=received_of(found))

    async def _counters(self, client: aiohttp.ClientSession, door: Door) -> None:
        with suppress(TimeoutError, aiohttp.ClientError):
            async with client.get(f"http://{door.metrics}/metrics") as answer:
                page = await answer.text()
            self._shed.take(door.name, counters_in(page, SHED, "class"))
            self._backfilled.take(door.name, counters_in(page, BACKFILLED, "class"))
            self._publish(shed=dict(self._shed.by_name), backfilled=dict(self._backfilled.by_name))


def governed_of(state: governing.State) -> Governed:
    """Read the governor's answer."""
    directive = state.directive
    level = level_of(directive.level) if directive.level else None
    return Governed(
        level,
        level_of(directive.lag_level),
        level_of(directive.memory_level),
        sum(group.lag for group in state.groups),
        tuple(governing.Cause.Name(c).removeprefix("CAUSE_") for c in directive.causes),
        directive.explanation,
        directive.epoch,
        tuple(process_of(process.report) for process in state.processes),
    )


def process_of(report: governing.Report) -> ProcessSight:
    return ProcessSight(
        report.process,
        report.service,
        report.memory_used_bytes,
        report.memory_limit_bytes,
        level_of(report.memory_level),
        level_of(report.applied_level),
    )


def level_of(number: governing.Level.ValueType) -> Level:
    """Return a level by its number in Protobuf; what is not said is NORMAL."""
    return Level(max(0, number - 1))


def received_of(found: ingestor_pb2.ListFeedsResponse) -> Received:
    return Received(
        sum(feed.trades for feed in found.feeds),
        sum(len(feed.recent_gaps) for feed in found.feeds),
        sum(feed.missing_trades for feed in found.feeds),
        sum(feed.healed_trades for feed in found.feeds),
        found.reconnects,
        found.malformed_frames,
        found.spool.memory_records + found.spool.spooled_records,
    )


def written_of(
    status: writer_pb2.GetStatusResponse, owed: backfill_pb2.GetBackfillResponse
) -> Written:
    return Written(
        decoded=sum(partition.decoded_offset for partition in status.partitions),
        commits=status.commits,
        dead_lettered=status.dead_lettered_rows,
        duplicates=status.duplicate_rows,
        open_records=sum(one.records for one in owed.ranges),
        open_classes=frozenset(name for one in owed.ranges for name in one.classes),
        backfilled=owed.backfilled_records,
        stopped_because=status.stopped_because or owed.stopped_because,
    )


def added_up(writers: list[Written]) -> Written:
    return Written(
        decoded=sum(one.decoded for one in writers),
        commits=sum(one.commits for one in writers),
        dead_lettered=sum(one.dead_lettered for one in writers),
        duplicates=sum(one.duplicates for one in writers),
        open_records=sum(one.open_records for one in writers),
        open_classes=frozenset().union(*(one.open_classes for one in writers)),
        backfilled=sum(one.backfilled for one in writers),
        stopped_because=next((o.stopped_because for o in writers if o.stopped_because), ""),
    )
