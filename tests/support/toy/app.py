"""The smallest service, for tests of the runtime: `python -m tests.support.toy`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Literal

import structlog
from pydantic import Field

from libs.market.errors import UnavailableError
from libs.runtime.actor import Actor
from libs.runtime.config import Address, ServiceConfig
from libs.runtime.faultpoint import reach
from libs.runtime.restarts import RestartPolicy
from libs.runtime.service import Service
from tests.support.echo import echo_servicer

log = structlog.get_logger()
Trouble = Literal[
    "none",
    "hang_in_build",
    "hang_in_thread",
    "hang_in_start",
    "hang_in_run",
    "fail",
    "no_kafka",
    "wants_restart",
]


class ToyConfig(ServiceConfig):
    """A toy's variables."""

    name: str = Field("toy-1", validation_alias="K2_SERVICE_NAME", description="its name")
    grpc_address: Address = Field(
        "127.0.0.1:0", validation_alias="K2_TEST_GRPC_ADDRESS", description="where it listens"
    )
    metrics_address: Address = Field(
        "127.0.0.1:0", validation_alias="K2_TEST_METRICS_ADDRESS", description="its metrics page"
    )
    trouble: Trouble = Field("none", validation_alias="K2_TEST_TROUBLE", description="what fails")


class Toy(Actor):
    """Says in the log that it drained."""

    def __init__(
        self, trouble: Trouble, restart_asked: asyncio.Event, run_dir: Path | None
    ) -> None:
        self.name = "toy"
        self._restart_asked = restart_asked
        self._restarted = (run_dir or Path()) / "restarted"
        self._trouble = trouble
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        if self._trouble == "hang_in_start":
            log.info("hanging")
            await asyncio.Event().wait()

    async def run(self) -> None:
        await reach("toy.running")
        if self._trouble == "fail":
            raise RuntimeError("the toy is broken")
        if self._trouble == "hang_in_run":
            await asyncio.Event().wait()
        if self._trouble == "wants_restart":
            await self._ask_once()
        await self._stopped.wait()
        log.info("drained")

    async def stop(self) -> None:
        self._stopped.set()

    async def _ask_once(self) -> None:
        await reach("toy.wants_restart")
        if not self._restarted.exists():
            self._restarted.touch()
            self._restart_asked.set()


async def build(config: ToyConfig) -> Service:
    if config.trouble == "hang_in_build":
        log.info("hanging")
        await asyncio.Event().wait()
    if config.trouble == "hang_in_thread":
        log.info("hanging")
        await asyncio.to_thread(time.sleep, 600)
    if config.trouble == "no_kafka":
        raise UnavailableError("no Kafka at 127.0.0.1:9; start one with `k2 up`")
    restart_asked = asyncio.Event()
    return Service(
        name=config.name,
        kind="toy",
        actors=[Toy(config.trouble, restart_asked, config.run_dir)],
        servicers=[echo_servicer()],
        grpc_address=config.grpc_address,
        metrics_address=config.metrics_address,
        run_dir=config.run_dir,
        restart_asked=restart_asked,
        policy=RestartPolicy(max_restarts=2, backoff_s=0),
    )
