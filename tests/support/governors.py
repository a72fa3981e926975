"""Two governors of one K2, and what a process obeyed of either."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaProducer
from k2.governor.v1 import governor_pb2 as pb

from libs.degradation.agent import DegradationAgent
from libs.degradation.level import Level
from libs.degradation.memory import MemoryUse
from libs.degradation.messages import Acknowledgement, Directive, OwnReport
from libs.degradation.obedience import Applied
from libs.market.errors import K2Error
from tests.support.governor import free_address, governor, produce, state_at
from tests.support.polling import PATIENCE_S, eventually
from tests.support.processes import Process
from tests.support.proxies import Proxy, proxy


@dataclass(frozen=True)
class Pair:
    """Both processes and their addresses; `topic` is also their consumer group."""

    topic: str
    first: Process
    second: Process
    addresses: tuple[str, str]

    @property
    def both(self) -> str:
        return ",".join(self.addresses)


@contextmanager
def governors(
    bootstrap: str,
    topic: str,
    run_dir: Path,
    env: Mapping[str, str] | None = None,
    first_env: Mapping[str, str] | None = None,
) -> Iterator[Pair]:
    """Run two; `first_env` is the first one's alone."""
    shared = dict(env or {})
    with ExitStack() as stack:
        one = stack.enter_context(
            governor(bootstrap, topic, run_dir, shared | dict(first_env or {}))
        )
        two = stack.enter_context(governor(bootstrap, topic, run_dir, shared, name="governor-2"))
        yield Pair(topic, one[0], two[0], (one[1], two[1]))


@dataclass
class Obeyed:
    """A directive that a process took in, and when."""

    at_s: float
    epoch: int
    sequence: int
    refused_because: str


@dataclass
class Subject:
    """A process that writes down all it is told."""

    agent: DegradationAgent
    heard: list[Applied] = field(default_factory=list)
    told: list[Obeyed] = field(default_factory=list)
    own: OwnReport = field(default_factory=OwnReport)

    @property
    def epochs(self) -> list[int]:
        """Epochs in the order in which they were obeyed."""
        return [one.epoch for one in self.told if not one.refused_because]

    @property
    def authority(self) -> str:
        return self.agent.applied.authority

    async def directed_by(self, epoch: int, level: Level, timeout_s: float = 15) -> None:
        """Wait until this epoch directs it, or a newer one, at this level."""

        def so() -> bool:
            newest = self.epochs[-1] if self.epochs else -1
            return newest >= epoch and self.authority == "governor" and self.agent.level is level

        await eventually(so, timeout_s, what=f"{level.name} by epoch {epoch}")

    def never_fell(self) -> bool:
        """Whether no level that it acted on was lower than the one before."""
        levels = [heard.level for heard in self.heard]
        return levels == sorted(levels)

    def never_went_back(self) -> bool:
        obeyed = [(one.epoch, one.sequence) for one in self.told if not one.refused_because]
        return obeyed == sorted(obeyed)


class _Noting(DegradationAgent):
    def note_in(self, told: list[Obeyed]) -> None:
        self._taken_down = told

    def obey(self, directive: Directive) -> Acknowledgement | None:
        answer = super().obey(directive)
        why = answer.refused_because if answer else ""
        self._taken_down.append(Obeyed(time.monotonic(), directive.epoch, directive.sequence, why))
        return answer


@asynccontextmanager
async def subject(addresses: str, topic: str, process: str = "writer-1") -> AsyncIterator[Subject]:
    """Run a process that reports no lag of its own while the body runs."""
    heard: list[Applied] = []
    own = OwnReport(consumer_group=topic)
    agent = _Noting(
        "writer",
        process,
        addresses,
        lambda: own,
        heard.append,
        measure=lambda _: MemoryUse(100, 1_000),
    )
    one = Subject(agent, heard, own=own)
    agent.note_in(one.told)
    running = asyncio.create_task(agent.run())
    try:
        yield one
    finally:
        await agent.stop()
        async with asyncio.timeout(PATIENCE_S):
            await running


@dataclass(frozen=True)
class Reached:
    """A governor that leads, and a process at SOFT by it that reaches it over a proxy only."""

    address: str
    epoch: int
    way: Proxy
    writer: Subject


@asynccontextmanager
async def reached_by_proxy(
    bootstrap: str, topic: str, producer: AIOKafkaProducer, run_dir: Path, env: Mapping[str, str]
) -> AsyncIterator[Reached]:
    address = free_address()
    async with proxy(address) as way:
        with governor(bootstrap, topic, run_dir, {**env, "K2_GOVERNOR_GRPC_ADDRESS": address}):
            epoch = (await leads(address)).directive.epoch
            async with subject(way.address, topic) as writer:
                await produce(producer, topic, 150)
                await writer.directed_by(epoch, Level.SOFT)
                yield Reached(address, epoch, way, writer)


async def leads(address: str, timeout_s: float = 20, *, after: int = 0) -> pb.State:
    """Wait until the governor there leads and orders; return its state.

    `after` is the epoch before: one that slept as the leader believes for a while that it is.
    """
    return await eventually(lambda: leading(address, after), timeout_s, what=f"{address} leads")


async def leading(address: str, after: int = 0) -> pb.State | None:
    """Return the state of the governor there, where it leads and orders."""
    state = await _state(address)
    ordering = state is not None and state.leading and state.directive.epoch > after
    return state if ordering else None


async def follows(address: str, leader: str, timeout_s: float = 20) -> pb.State:
    """Wait until the governor there stands by, and says that the other leads."""
    return await eventually(
        lambda: following(address, leader), timeout_s, what=f"{address} stands by"
    )


async def following(address: str, leader: str) -> pb.State | None:
    """Return the state of the governor there, where it stands by for this leader."""
    state = await _state(address)
    stands_by = state is not None and not state.leading and state.leader.address == leader
    return state if stands_by else None


async def _state(address: str) -> pb.State | None:
    try:
        return await state_at(address)
    except K2Error:
        return None
