"""A writer at full speed with few, large commits, under the real governor: NORMAL throughout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.degradation.level import LAG_THRESHOLDS, Thresholds
from libs.kafka.send import send_values
from libs.lake.table.tables import bucket_of
from libs.rpc.client import call, channel
from tests.support.flow import encoded
from tests.support.governor import free_address, governor, state_at
from tests.support.governors import leads
from tests.support.polling import PATIENCE_S, eventually
from tests.support.processes import Process
from tests.support.writer import Writing, has_partitions, rows_in, status

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "XRPUSDT", "ADAUSDT", "SOLUSDT")
# So many are under way at most: as fast as the writer takes them. Where it is so slow that they
# alone were SOFT, nothing can be shown.
UNDER_WAY = 6_000
BURST = 250
MEASURED_S = 5.0
# SOFT is what comes in two thirds of a second; production's is a third of 300,000 a second.
SOFT_S = 2 / 3
COMMITS = 3
LARGE = {"K2_WRITER_FLUSH_AFTER_S": "10", "K2_WRITER_FLUSH_AFTER_BYTES": "256MiB"}


@pytest.mark.whole
@pytest.mark.timeout(600)
async def test_a_writer_at_full_speed_stays_normal_whatever_its_commits(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Thresholds are by its own speed, here and now. The committed positions alone say SOFT.

    By its commits to the table it were worse: each has more records than GRACEFUL is.
    """
    address = free_address()
    with ExitStack() as stack:
        writer = stack.enter_context(writing.writer(env=LARGE | {"K2_GOVERNOR_ADDRESS": address}))
        await has_partitions(writer, 16, 16)
        pump = Pump(writing, producer, writer)
        async with pumping(pump):
            thresholds = scaled(await pump.records_per_s())
        if thresholds.soft < 2 * UNDER_WAY:
            pytest.skip(f"this machine takes {thresholds.soft / SOFT_S:,.0f} records a second now")
        by_report, by_gauge = both(writing, stack, thresholds, address)
        await leads(by_report)
        await leads(by_gauge)
        await eventually(lambda: attached(by_report), what="the writer is directed")
        async with pumping(pump):
            since, before = pump.sent, (await status(writer)).commits
            await eventually(lambda: above_normal(by_gauge), what="SOFT by the gauge")
            await eventually(lambda: committed(writer, before + COMMITS), 120, what="commits")
            commits, sent = (await status(writer)).commits - before, pump.sent - since
        assert await above_normal_in(by_report) == []
        assert sent / commits > thresholds.graceful
        await eventually(lambda: rows_in(writing.lake) == pump.sent, 120, what="all in the table")


@dataclass
class Pump:
    """Sends trades as fast as the writer decodes them, and never many ahead."""

    writing: Writing
    producer: AIOKafkaProducer
    writer: Process
    sent: int = 0
    decoded: int = 0
    running: bool = False
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        self.running = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._send())

    async def records_per_s(self) -> float:
        """Measure for some seconds how many are decoded in one."""
        await eventually(lambda: self.decoded > UNDER_WAY, what="the writer reads")
        before, began_s = self.decoded, time.monotonic()
        await asyncio.sleep(MEASURED_S)
        return (self.decoded - before) / (time.monotonic() - began_s)

    async def _watch(self) -> None:
        while self.running:
            partitions = (await status(self.writer)).partitions
            self.decoded = sum(partition.decoded_offset for partition in partitions)
            self._more.set()

    async def _send(self) -> None:
        while self.running:
            if self.sent - self.decoded <= UNDER_WAY - BURST * len(SYMBOLS):
                first = self.sent // len(SYMBOLS)
                ids = np.arange(first, first + BURST)
                await asyncio.gather(*(self._send_some(symbol, ids) for symbol in SYMBOLS))
                self.sent += BURST * len(SYMBOLS)
            else:
                self._more.clear()
                await self._more.wait()

    async def _send_some(self, symbol: str, ids: np.ndarray) -> None:
        values = encoded(symbol, ids, self.writing.schema_id)
        keys = [symbol.encode()] * BURST
        topic, partition = self.writing.topic, bucket_of(symbol)
        await send_values(self.producer, topic, partition, keys, values)


@asynccontextmanager
async def pumping(pump: Pump) -> AsyncIterator[None]:
    """Run it while the body runs; what was begun is sent in the end."""
    task = asyncio.create_task(pump.run())
    try:
        yield
        pump.running = False
        async with asyncio.timeout(PATIENCE_S):
            await task
    finally:
        task.cancel()
        await asyncio.wait({task})


def scaled(records_per_s: float) -> Thresholds:
    return LAG_THRESHOLDS.scaled(records_per_s * SOFT_S / LAG_THRESHOLDS.soft)


def both(
    writing: Writing, stack: ExitStack, thresholds: Thresholds, address: str
) -> tuple[str, str]:
    """Start the writer's governor, and one that hears no report: both measure the same."""
    run, topic = writing.folder / "governors", writing.topic
    env = {
        "K2_GOVERNOR_GROUPS": f"group-{topic}",
        "K2_GOVERNOR_LAG_THRESHOLDS": ",".join(f"{one:.0f}" for one in thresholds.in_order),
        "K2_GOVERNOR_TTL_S": "10",
    }
    # A report of a busy machine may be seconds late; it still says what was so at its moment.
    here = env | {"K2_GOVERNOR_GRPC_ADDRESS": address, "K2_GOVERNOR_REPORT_FRESH_S": "30"}
    apart = env | {
        "K2_GOVERNOR_DIRECTIVES_TOPIC": f"{topic}.apart",
        "K2_GOVERNOR_REPORT_FRESH_S": "0.001",
    }
    stack.enter_context(governor(writing.bootstrap, topic, run / "one", here))
    _, gauge = stack.enter_context(governor(writing.bootstrap, topic, run / "two", apart))
    return address, gauge


async def attached(address: str) -> bool:
    return any(process.attached for process in (await state_at(address)).processes)


async def above_normal(address: str) -> bool:
    return (await state_at(address)).directive.level > pb.LEVEL_NORMAL


async def committed(writer: Process, commits: int) -> bool:
    return (await status(writer)).commits >= commits


async def above_normal_in(address: str) -> list[str]:
    """Return why the level was not NORMAL, wherever the governor has recorded that."""
    async with channel(address) as connection:
        stub = governor_pb2_grpc.GovernorServiceStub(connection)
        page = await call(stub.ListRecords, pb.ListRecordsRequest(page_size=1_000))
    assert any(record.level == pb.LEVEL_NORMAL for record in page.records)
    return [record.explanation for record in page.records if record.level > pb.LEVEL_NORMAL]
