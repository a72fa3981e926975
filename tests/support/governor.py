"""A real governor over a topic of the test's own, and processes that attach to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from google.protobuf.duration_pb2 import Duration
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.degradation.agent import DegradationAgent
from libs.degradation.level import Level
from libs.degradation.memory import MemoryUse
from libs.degradation.messages import OwnReport
from libs.degradation.obedience import Applied
from libs.rpc.client import call, channel
from libs.telemetry.ports import lasting_port
from tests.support.polling import PATIENCE_S, eventually
from tests.support.processes import Process, started

# All five levels within a few hundred records and seconds.
FAST = {
    "K2_GOVERNOR_LAG_THRESHOLDS": "100,200,300,400",
    "K2_GOVERNOR_COOLDOWN_S": "1",
    "K2_GOVERNOR_TTL_S": "3",
    "K2_GOVERNOR_SAMPLE_EVERY_S": "0.2",
}
# No process is left to itself, and no lead is lost, where a busy machine stands still for seconds.
STEADY = {"K2_GOVERNOR_TTL_S": "30"}


def free_address() -> str:
    """Give an address that a restarted process can listen on again."""
    return f"127.0.0.1:{lasting_port()}"


@contextmanager
def governor(
    bootstrap: str,
    topic: str,
    run_dir: Path,
    env: Mapping[str, str] | None = None,
    *,
    name: str = "governor-1",
) -> Iterator[tuple[Process, str]]:
    """Run a governor process for a group named like the topic; give it and its address."""
    address = free_address()
    settings = {
        "K2_KAFKA_BOOTSTRAP": bootstrap,
        "K2_GOVERNOR_GRPC_ADDRESS": address,
        "K2_GOVERNOR_METRICS_ADDRESS": "127.0.0.1:0",
        "K2_GOVERNOR_TOPICS": topic,
        "K2_GOVERNOR_DIRECTIVES_TOPIC": f"{topic}.directives",
        "K2_GOVERNOR_GROUPS": topic,
    }
    with ExitStack() as stack:
        everything = settings | FAST | dict(env or {})
        process = stack.enter_context(
            started("services.governor", name=name, run_dir=run_dir, env=everything)
        )
        yield process, address


async def state_at(address: str) -> pb.State:
    async with channel(address) as connection:
        stub = governor_pb2_grpc.GovernorServiceStub(connection)
        return (await call(stub.GetState, pb.GetStateRequest())).state


async def set_override(address: str, level: pb.Level.ValueType, reason: str) -> None:
    """Have an operator set a level."""
    async with channel(address) as connection:
        stub = governor_pb2_grpc.GovernorServiceStub(connection)
        request = pb.SetOverrideRequest(level=level, reason=reason, duration=Duration(seconds=300))
        await call(stub.SetOverride, request)


async def clear_override(address: str) -> pb.ClearOverrideResponse:
    async with channel(address) as connection:
        stub = governor_pb2_grpc.GovernorServiceStub(connection)
        return await call(stub.ClearOverride, pb.ClearOverrideRequest())


async def shows(address: str, level: Level, timeout_s: float = 15) -> pb.State:
    """Wait until the governor shows this level, and return its state."""

    async def shown() -> pb.State | None:
        state = await state_at(address)
        return state if state.directive.level == level + 1 else None

    return await eventually(shown, timeout_s, what=f"{level.name} at the governor")


async def lags(address: str, records: int) -> pb.State:
    """Wait until the governor shows this lag of its one group, and return its state."""

    async def shown() -> pb.State | None:
        state = await state_at(address)
        return state if [group.lag for group in state.groups] == [records] else None

    return await eventually(shown, what=f"a lag of {records} at the governor")


async def produce(producer: AIOKafkaProducer, topic: str, records: int) -> None:
    waits = [await producer.send(topic, b"x", partition=n % 16) for n in range(records)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*waits)


async def commit_decoded(bootstrap: str, topic: str, positions: Mapping[int, int]) -> None:
    """Commit as the writer does: the group's decoded positions."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=topic, enable_auto_commit=False
    )
    async with asyncio.timeout(PATIENCE_S):
        await consumer.start()
        try:
            partitions = {TopicPartition(topic, p): offset for p, offset in positions.items()}
            consumer.assign(list(partitions))
            await consumer.commit(partitions)
        finally:
            await consumer.stop()


async def commit_everything(bootstrap: str, topic: str, records: int) -> None:
    """Commit what `produce` sent so many of, from the start."""
    await commit_decoded(bootstrap, topic, {p: len(range(p, records, 16)) for p in range(16)})


class Attached:
    """One process at the governor, its memory and report in the test's hand."""

    def __init__(self, address: str, topic: str, process: str = "writer-1") -> None:
        self.used_bytes = 100
        self.own = OwnReport(consumer_group=topic, lag=0)
        self.heard: list[Applied] = []
        self.agent = DegradationAgent(
            "writer",
            process,
            address,
            lambda: self.own,
            self.heard.append,
            measure=lambda _: MemoryUse(self.used_bytes, 1_000),
        )

    async def at(self, level: Level, timeout_s: float = 15) -> None:
        await eventually(lambda: self.agent.level is level, timeout_s, what=f"{level.name} applied")


@asynccontextmanager
async def attached(address: str, topic: str, process: str = "writer-1") -> AsyncIterator[Attached]:
    """Run an agent while the body runs."""
    one = Attached(address, topic, process)
    running = asyncio.create_task(one.agent.run())
    try:
        yield one
    finally:
        await one.agent.stop()
        async with asyncio.timeout(PATIENCE_S):
            await running
