"""Everything K2 runs on, started in order and stopped in the reverse of it.

Kafka, then the governor, writer and query, then the exchange and the ingestor: who reads is there
before who writes, so that nothing has to catch up. What need not wait for another loads beside it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from libs.market.errors import K2Error, UnavailableError
from libs.runtime.doors import Door, find
from libs.runtime.restarts import RestartPolicy
from libs.runtime.supervisor import RestartIntensityError, Supervisor
from tools.cli.doors.health import is_serving
from tools.cli.parts.broker import Kafka, KafkaElsewhere, OwnKafka
from tools.cli.parts.children import STOP_GRACE_S, ChildProcess, Command, Part
from tools.cli.parts.ports import Ports

LIVE_EXCHANGE_URL = "wss://stream.binance.com:9443"
LIVE_REST_URL = "https://api.binance.com"
PORTS = {"simulator": 7100, "ingestor": 7101, "writer": 7102, "query": 7103, "governor": 7104}
METRICS_OFFSET = 100
NEXT_OF_A_KIND = 10
NO_RESTARTS = RestartPolicy(max_restarts=0)
STOP_TIMEOUT_S = STOP_GRACE_S + 5
POLL_S = 0.05


Serving = Callable[[Door], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one running K2."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def make(self) -> None:
        """Create what is not there yet."""
        for folder in (self.data / "warehouse", self.run, self.logs):
            folder.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where trades come from: the simulator with these arguments, or live Binance."""

    simulator_arguments: Sequence[str] = ()
    # Started anew, on the same data, it goes on as if it had never stopped.
    goes_on: bool = False
    live: bool = False
    symbols: str = "*"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start, and how."""

    layout: Layout
    exchange: Exchange
    flush_after_s: float
    restarts: RestartPolicy = NO_RESTARTS
    variables: Mapping[str, str] = field(default_factory=dict)
    # Of one service's processes alone, by service.
    service_variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # The cgroup.procs of those that have a cgroup of their own, by process.
    confined: Mapping[str, Path] = field(default_factory=dict)
    writers: int = 1
    governors: int = 1
    on_step: Callable[[str], None] = field(default=lambda _: None)


class Fleet:
    """The parts of one running K2, and what each must be told."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ports = Ports()
        self._readers = [*self._services("writer", plan.writers), self._service("query")]
        self._governors = self._services("governor", plan.governors, along=self._readers)
        self._ingestor = self._service("ingestor")
        self._exchange = [] if plan.exchange.live else [self._simulator()]
        self._kafka = self._broker()

    @property
    def bootstrap(self) -> str:
        return self._kafka.bootstrap

    @property
    def broker_pid(self) -> int | None:
        """The process of the Kafka that this fleet started; None while there is none."""
        return self._kafka.pid

    @property
    def layout(self) -> Layout:
        return self._plan.layout

    def doors(self) -> dict[str, Door]:
        """Return the open doors, by process name."""
        return find(self._plan.layout.run)

    def door(self, service: str) -> Door:
        """Return the open door of a service.

        Raises:
            UnavailableError: it has none at this moment.
        """
        for door in self.doors().values():
            if door.service == service:
                return door
        raise UnavailableError(f"the {service} does not run: see {self.layout.logs}")

    def parts(self) -> list[Part]:
        """Return the parts in the order of their start."""
        readers = [*self._governors, *self._readers]
        return [self._kafka, *readers, *self._exchange, self._ingestor]

    async def close(self) -> None:
        """End what was launched ahead and never came to its turn, and give the ports back."""
        await asyncio.gather(*(child.close() for child in [*self._readers, self._ingestor]))
        self._ports.close()

    def _broker(self) -> Kafka:
        elsewhere = os.environ.get("K2_KAFKA_BOOTSTRAP")
        if elsewhere:
            return KafkaElsewhere(elsewhere)
        data = self.layout.data / "kafka"
        return OwnKafka(data, on_step=self._plan.on_step)

    def _services(
        self, service: str, count: int, along: Sequence[ChildProcess] = ()
    ) -> list[ChildProcess]:
        return [self._service(service, number + 1, along) for number in range(count)]

    def _service(
        self, service: str, number: int = 1, along: Sequence[ChildProcess] = ()
    ) -> ChildProcess:
        name = f"{service}-{number}"

        def command() -> Command:
            self._plan.on_step(service if number == 1 else name)
            variables = self._variables(service, number)
            into = self._plan.confined.get(name)
            return Command(f"services.{service}", variables=variables, into=into)

        return self._child(name, command, serving=_grpc_serving, along=along)

    def _simulator(self) -> ChildProcess:
        def command() -> Command:
            self._plan.on_step("exchange")
            port = self._address("simulator").rpartition(":")[2]
            arguments = ["--run-dir", str(self.layout.run), "--port", port]
            arguments += self._plan.exchange.simulator_arguments
            if self._plan.exchange.goes_on:
                arguments += ["--keep", str(self.layout.data / "exchange.json")]
            return Command("tools.simulator", arguments)

        return self._child("simulator", command, serving=_open)

    def _child(
        self,
        name: str,
        command: Callable[[], Command],
        *,
        serving: Serving,
        along: Sequence[ChildProcess] = (),
    ) -> ChildProcess:
        log = self.layout.logs / f"{name}.log"
        run_dir = self.layout.run
        return ChildProcess(name, command, run_dir=run_dir, log=log, serving=serving, along=along)

    def _variables(self, service: str, number: int) -> dict[str, str]:
        prefix = f"K2_{service.upper()}"
        data = self.layout.data
        variables = {
            "K2_SERVICE_NAME": f"{service}-{number}",
            "K2_RUN_DIR": str(self.layout.run),
            "K2_LOG_FORMAT": "json",
            "K2_KAFKA_BOOTSTRAP": self.bootstrap,
            "K2_CATALOG_URI": f"sqlite:///{data / 'catalog.db'}",
            "K2_WAREHOUSE": str(data / "warehouse"),
            "K2_SCHEMA_REGISTRY": str(data / "schemas.json"),
            f"{prefix}_GRPC_ADDRESS": self._address(service, number),
            f"{prefix}_METRICS_ADDRESS": self._address(service, number, METRICS_OFFSET),
        }
        own: dict[str, Callable[[], dict[str, str]]] = {
            "governor": dict,
            "writer": partial(self._writer_variables, number),
            "query": self._query_variables,
            "ingestor": self._ingestor_variables,
        }
        given = {**self._plan.variables, **self._plan.service_variables.get(service, {})}
        return variables | self._governor_address(service) | own[service]() | given

    def _governor_address(self, service: str) -> dict[str, str]:
        if service == "governor":
            return {}
        numbers = range(1, self._plan.governors + 1)
        addresses = [self._address("governor", number) for number in numbers]
        return {"K2_GOVERNOR_ADDRESS": ",".join(addresses)}

    def _address(self, service: str, number: int = 1, offset: int = 0) -> str:
        preferred = PORTS[service] + offset + (number - 1) * NEXT_OF_A_KIND
        return self._ports.address(preferred)

    def _writer_variables(self, number: int) -> dict[str, str]:
        return {
            "K2_WRITER_FLUSH_AFTER_S": f"{self._plan.flush_after_s:g}",
            # Whoever is started in a killed one's place has its partitions at once.
            "K2_WRITER_GROUP_INSTANCE": f"writer-{number}",
        }

    def _query_variables(self) -> dict[str, str]:
        return {"K2_QUERY_SPILL_DIR": str(self.layout.data / "spill")}

    def _ingestor_variables(self) -> dict[str, str]:
        websocket, rest = LIVE_EXCHANGE_URL, LIVE_REST_URL
        if not self._plan.exchange.live:
            address = self._address("simulator")
            websocket, rest = f"ws://{address}", f"http://{address}"
        return {
            "K2_INGESTOR_EXCHANGE_URL": websocket,
            "K2_INGESTOR_REST_URL": rest,
            "K2_INGESTOR_SYMBOLS": self._plan.exchange.symbols,
            "K2_INGESTOR_SPOOL_DIR": str(self.layout.data / "spool"),
            "K2_INGESTOR_WRITER_ADDRESS": self._address("writer"),
        }


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[tuple[Fleet, asyncio.Task[None]]]:
    """Start everything, give the fleet and the task that ends when a part fails for good.

    Leaving stops everything, in order.

    Raises:
        K2Error: a part did not start; the message says which, and why.
    """
    plan.layout.make()
    fleet = Fleet(plan)
    parts = fleet.parts()
    supervisor = Supervisor(parts, policy=plan.restarts, stop_timeout_s=STOP_TIMEOUT_S)
    task = asyncio.create_task(supervisor.run(), name="fleet")
    try:
        while not supervisor.started and not task.done():
            raise_failed_start(parts)
            await asyncio.sleep(POLL_S)
        raise_failed_start(parts)
        if task.done():
            raise_failure(task)
        yield fleet, task
    finally:
        await supervisor.stop()
        await asyncio.wait({task})
        await fleet.close()
        task.exception()


def raise_failed_start(parts: Sequence[Part]) -> None:
    """Raise what kept a part from starting: before all have, it is not worth another try."""
    for part in parts:
        if part.start_failure is not None:
            raise part.start_failure


def raise_failure(task: asyncio.Task[None]) -> None:
    """Raise what made the fleet end, as the part that failed said it."""
    error = task.exception()
    if isinstance(error, RestartIntensityError) and isinstance(error.__cause__, K2Error):
        raise error.__cause__
    if error is not None:
        raise error


async def _grpc_serving(door: Door) -> bool:
    return door.grpc is not None and await is_serving(door.grpc)


async def _open(door: Door) -> bool:
    return door.open
