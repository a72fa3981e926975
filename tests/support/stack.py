"""A running K2 to do harm to: a broker, two writers, a query service and a governor."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaProducer

from libs.kafka.admin import ensure_topics
from libs.kafka.client import start_producer, stop_client
from libs.kafka.dead_letters import DEAD_LETTER_PARTITIONS
from libs.kafka.topics import dead_letter_topic
from libs.lake.table.tables import ensure_trades
from libs.market.errors import UnavailableError
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import register_trades
from tests.support.disks import SmallDisk
from tests.support.evidence import Log
from tests.support.flow import Flow
from tests.support.governor import FAST, free_address
from tests.support.processes import ROOT, Process, started
from tests.support.writer import Writing
from tools.cli.parts.children import last_complaint
from tools.kafka.broker import LocalKafka

TOPIC = "market.crypto.trades.binance"
# Critical, high, normal and low symbols of the shipped policy; one whose answers can be complete.
SYMBOLS = ("BTCUSDT", "BNBUSDT", "DOGEUSDT", "ADAUPUSDT", "SOLUSDT")
CLEAN = ("SOLUSDT",)
STEPPING = ROOT / "tests/support/stepping"
WRITERS = ("writer-1", "writer-2")
GUARD_EVERY_S = 0.1


@dataclass
class Stack:
    """The parts, and what is going on with them."""

    broker: LocalKafka
    writing: Writing
    producer: AIOKafkaProducer
    flow: Flow
    log: Log
    processes: dict[str, Process]
    disk: SmallDisk | None = None
    down: set[str] = field(default_factory=set)
    ended: Counter[str] = field(default_factory=Counter)

    @property
    def writers(self) -> list[Process]:
        return [self.processes[name] for name in WRITERS]

    def step_of(self, name: str) -> Path:
        return self.writing.folder / f"{name}.step"

    async def guard(self) -> None:
        """Start again whatever ended by itself, as whoever runs K2 does."""
        while True:
            for name, process in self.processes.items():
                if name not in self.down and not process.alive:
                    why = last_complaint(process.log)
                    self.ended[f"{name} ended with {process.exit_code}: {why}"] += 1
                    process.restart()
            await asyncio.sleep(GUARD_EVERY_S)


@asynccontextmanager
async def standing(folder: Path, seed: int, disk: SmallDisk | None) -> AsyncIterator[Stack]:
    """Start everything, and leave nothing behind."""
    async with LocalKafka(folder / "kafka") as broker:
        await ensure_topics(broker.bootstrap, [TOPIC])
        letters = dead_letter_topic(TOPIC)
        await ensure_topics(broker.bootstrap, [letters], partitions=DEAD_LETTER_PARTITIONS)
        schema_id = register_trades(SchemaRegistry(folder / "schemas.json"), TOPIC)
        writing = Writing(broker.bootstrap, TOPIC, folder, schema_id)
        ensure_trades(writing.lake)
        producer = await start_producer(broker.bootstrap, "soak")
        flow = Flow(writing, producer, seed=seed, symbols=SYMBOLS, clean=CLEAN)
        log = Log(broker.bootstrap, TOPIC)
        try:
            with ExitStack() as stack:
                processes = start_all(stack, writing)
                yield Stack(broker, writing, producer, flow, log, processes, disk)
        finally:
            with suppress(UnavailableError):
                await stop_client(producer)


def start_all(stack: ExitStack, writing: Writing) -> dict[str, Process]:
    governor = free_address()
    parts = {
        "governor-1": ("services.governor", governor_variables(writing, governor)),
        "query-1": ("services.query", query_variables(writing) | {"K2_GOVERNOR_ADDRESS": governor}),
        **{
            name: ("services.writer", writer_variables(writing, name, governor)) for name in WRITERS
        },
    }
    run_dir = writing.folder / "run"
    return {
        name: stack.enter_context(started(module, name=name, run_dir=run_dir, env=env))
        for name, (module, env) in parts.items()
    }


def writer_variables(writing: Writing, name: str, governor: str) -> dict[str, str]:
    step = writing.folder / f"{name}.step"
    step.write_text("0")
    return writing.environment() | {
        "K2_GOVERNOR_ADDRESS": governor,
        "K2_WRITER_MAINTENANCE_INTERVAL_S": "2",
        "K2_WRITER_MAINTENANCE_QUIET_S": "0",
        "K2_WRITER_MAINTENANCE_MERGE_AT": "4",
        "K2_WRITER_MAINTENANCE_KEEP_SNAPSHOTS": "10",
        "K2_WRITER_MAINTENANCE_KEEP_HOURS": "0",
        "K2_TEST_CLOCK": str(step),
        "PYTHONPATH": os.pathsep.join(map(str, (STEPPING, ROOT, ROOT / "protos"))),
    }


def query_variables(writing: Writing) -> dict[str, str]:
    shared = ("K2_KAFKA_BOOTSTRAP", "K2_CATALOG_URI", "K2_WAREHOUSE", "K2_SCHEMA_REGISTRY")
    return {name: writing.environment()[name] for name in shared} | {
        "K2_QUERY_TOPICS": writing.topic,
        "K2_QUERY_SPILL_DIR": str(writing.folder / "spill"),
        "K2_QUERY_GRPC_ADDRESS": "127.0.0.1:0",
        "K2_QUERY_METRICS_ADDRESS": "127.0.0.1:0",
    }


def governor_variables(writing: Writing, address: str) -> dict[str, str]:
    return FAST | {
        "K2_KAFKA_BOOTSTRAP": writing.bootstrap,
        "K2_GOVERNOR_GRPC_ADDRESS": address,
        "K2_GOVERNOR_METRICS_ADDRESS": "127.0.0.1:0",
        "K2_GOVERNOR_TOPICS": writing.topic,
        "K2_GOVERNOR_GROUPS": f"group-{writing.topic}",
        "K2_GOVERNOR_LAG_THRESHOLDS": "3000,6000,9000,100000",
    }
