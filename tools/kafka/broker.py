"""Apache Kafka as one KRaft node on this machine, for development and tests."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from libs.market.errors import K2Error, UnavailableError
from tools.kafka import folder
from tools.kafka.artifacts import Progress, ensure_jars, fetch_with_jgo, locked_jars, tools_dir
from tools.kafka.java import find_java
from tools.kafka.settings import (
    HOST,
    JVM_OPTIONS,
    STARTED,
    Identity,
    Layout,
)
from tools.process.owned import OwnedProcess

START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 15.0
_LOG_TAIL_BYTES = 64_000


class LocalKafka:
    """A broker on loopback that lives as long as its owner.

    It keeps its port and cluster id in `data_dir`, so that a restart finds its clients again.
    """

    def __init__(
        self,
        data_dir: str | Path,
        port: int = 0,
        java: str | Path | None = None,
        *,
        progress: Progress = lambda _done, _total: None,
    ) -> None:
        self._layout = Layout(Path(data_dir).absolute())
        self._port = port
        self._java = java
        self._progress = progress
        self._lock: BinaryIO | None = None
        self._process: OwnedProcess | None = None
        self._stop_asked = threading.Event()
        self._identity: Identity | None = None

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self._known().port}"

    @property
    def cluster_id(self) -> str:
        return self._known().cluster_id

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """True from its start until it ends, by itself or stopped."""
        return self._process is not None and not self._ended()

    @property
    def log_path(self) -> Path:
        return self._layout.output

    def start(self) -> None:
        """Have Kafka running; the first time its jars are downloaded (56 MB).

        Raises:
            ConfigError: there is no Java that fits.
            ConflictError: another process runs this data folder, or has its port.
            CorruptError: the data folder is not one Kafka can use.
            UnavailableError: the jars cannot be had, Kafka did not start in time, or `stop` was
                called meanwhile.
        """
        self._stop_asked.clear()
        java = find_java(self._java)
        jars = ensure_jars(tools_dir() / "kafka", locked_jars(), self._progress, fetch_with_jgo)
        command = [str(java), *JVM_OPTIONS, "-cp", os.pathsep.join(map(str, jars))]
        self._lock = folder.take(self._layout)
        try:
            self._identity = folder.prepare(self._layout, self._port, command)
            self._run([*command, "kafka.Kafka", str(self._layout.properties)])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End Kafka: in order, or by force after a while.

        Safe to call at any time; a start under way in another thread ends soon, and then leaves
        nothing where this is called once more.
        """
        self._stop_asked.set()
        if self._process is not None:
            self._process.stop(patience_s=STOP_TIMEOUT_S)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def __aenter__(self) -> Self:
        starting = asyncio.create_task(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread cannot be cancelled: leave only when it holds nothing any more.
            self._stop_asked.set()
            await asyncio.wait({starting})
            starting.exception()
            await asyncio.to_thread(self.stop)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _known(self) -> Identity:
        if self._identity is None:
            raise RuntimeError("the broker has not been started")
        return self._identity

    def _run(self, command: list[str]) -> None:
        output = self._layout.output
        output.write_bytes(b"")
        lock = [self._lock.fileno()] if self._lock else []
        self._process = OwnedProcess(command, log=output, inherit=lock)
        self._process.start()
        folder.wait(lambda: STARTED in output.read_bytes() or self._ended(), START_TIMEOUT_S)
        if self._stop_asked.is_set():
            raise UnavailableError("Kafka was stopped while it started")
        if STARTED not in output.read_bytes():
            raise _start_failure(self._layout, self._known(), self._process.exit_code())

    def _ended(self) -> bool:
        ended = self._process is not None and self._process.exit_code() is not None
        return ended or self._stop_asked.is_set()


def _start_failure(layout: Layout, identity: Identity, exit_code: int | None) -> K2Error:
    output = layout.output.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
    if "Address already in use" in output:
        return folder.port_taken(identity.port, layout.root)
    if exit_code is None:
        return UnavailableError(
            f"Kafka did not start within {START_TIMEOUT_S:g} s; {layout.output} says more"
        )
    return folder.corrupt(
        layout, f"Kafka ended with code {exit_code}; {layout.output.name} says more"
    )
