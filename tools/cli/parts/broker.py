"""The Kafka that a K2 runs on: its own, or one that is there already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from libs.kafka.admin import cluster_id
from libs.market.errors import UnavailableError
from tools.cli.parts.children import POLL_S, ChildError, Part
from tools.kafka.broker import LocalKafka

ELSEWHERE_TIMEOUT_S = 10.0
FETCHED_STEP = 30


class Kafka(Part):
    """Knows the address of a broker once it has started."""

    name = "kafka"

    def __init__(self) -> None:
        self._stop_asked = asyncio.Event()
        self.bootstrap = ""

    @property
    def pid(self) -> int | None:
        """The broker's process, where it is ours."""
        return None

    async def run(self) -> None:
        await self._stop_asked.wait()

    async def stop(self) -> None:
        self._stop_asked.set()


class OwnKafka(Kafka):
    """The broker this K2 starts for itself."""

    def __init__(self, data: Path, *, on_step: Callable[[str], None]) -> None:
        super().__init__()
        self._on_step = on_step
        self._broker = LocalKafka(data, progress=self._fetched)

    async def begin(self) -> None:
        self._on_step(self.name)
        await self._broker.__aenter__()
        self.bootstrap = self._broker.bootstrap

    @property
    def pid(self) -> int | None:
        return self._broker.pid

    async def run(self) -> None:
        """Watch it.

        Raises:
            ChildError: it ended.
        """
        while not self._stop_asked.is_set():
            if not self._broker.running:
                text = f"Kafka ended by itself (its log: {self._broker.log_path})"
                raise ChildError(text, process=self.name)
            await asyncio.sleep(POLL_S)

    def _fetched(self, done: int, total: int) -> None:
        if done % FETCHED_STEP == 1:
            self._on_step(f"{self.name}: {done} of {total} files fetched, once")

    async def close(self) -> None:
        await self._broker.__aexit__(None, None, None)


class KafkaElsewhere(Kafka):
    """The broker that K2_KAFKA_BOOTSTRAP names."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.bootstrap = bootstrap

    async def begin(self) -> None:
        """See that it answers.

        Raises:
            UnavailableError: it does not.
        """
        try:
            await cluster_id(self.bootstrap, timeout_s=ELSEWHERE_TIMEOUT_S)
        except UnavailableError as error:
            text = (
                f"no Kafka answers at {self.bootstrap}: start it, correct K2_KAFKA_BOOTSTRAP,"
                " or unset that and K2 starts its own"
            )
            raise UnavailableError(text, bootstrap=self.bootstrap) from error
