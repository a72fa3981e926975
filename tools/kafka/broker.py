"""Apache Kafka as one KRaft node on this machine, for development and tests."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from libs.market.errors import ConflictError, CorruptError, K2Error, UnavailableError
from tools.kafka.artifacts import Progress, ensure_jars, fetch_with_jgo, locked_jars, tools_dir
from tools.kafka.java import find_java
from tools.kafka.settings import (
    HOST,
    JVM_OPTIONS,
    STARTED,
    Identity,
    Layout,
    server_properties,
)
from tools.process.owned import OwnedProcess

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
LOCK_TIMEOUT_S = 10.0
FORMAT_TIMEOUT_S = 60.0
_POLL_S = 0.02
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
    def log_path(self) -> Path:
        return self._layout.output

    def start(self) -> None:
        """Have Kafka running; the first time its jars are downloaded (56 MB).

        Raises:
            ConfigError: there is no Java that fits.
            ConflictError: another process runs this data folder, or has its port.
            CorruptError: the data folder is not one Kafka can use.
            UnavailableError: the jars cannot be had, or Kafka did not start in time.
        """
        java = find_java(self._java)
        jars = ensure_jars(tools_dir() / "kafka", locked_jars(), self._progress, fetch_with_jgo)
        command = [str(java), *JVM_OPTIONS, "-cp", os.pathsep.join(map(str, jars))]
        self._lock = _take_folder(self._layout)
        try:
            self._identity = _identity(self._layout, self._port)
            _check_port_free(self._identity.port, self._layout.root)
            _format(self._layout, self._identity, command)
            self._run([*command, "kafka.Kafka", str(self._layout.properties)])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End Kafka: in order, or by force after a while. Safe to call at any time."""
        if self._process is not None:
            self._process.stop(patience_s=STOP_TIMEOUT_S)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
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
        _wait(lambda: STARTED in output.read_bytes() or self._ended(), START_TIMEOUT_S)
        if STARTED not in output.read_bytes():
            raise _start_failure(self._layout, self._known(), self._process.exit_code())

    def _ended(self) -> bool:
        return self._process is not None and self._process.exit_code() is not None


def _wait(ready: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if ready():
            return True
        time.sleep(_POLL_S)
    return False


def _take_folder(layout: Layout) -> BinaryIO:
    """Lock the folder. The broker inherits the lock: a dying one still holds it."""
    layout.root.mkdir(parents=True, exist_ok=True)
    lock = layout.lock.open("ab")
    if not _wait(lambda: _locked(lock), LOCK_TIMEOUT_S):
        lock.close()
        raise ConflictError(
            f"another Kafka runs on {layout.root}: stop it, or choose another data folder"
        )
    return lock


def _locked(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identity(layout: Layout, port: int) -> Identity:
    """Read what the folder keeps, or decide it; a port asked for replaces the kept one."""
    try:
        kept = msgspec.json.decode(layout.identity.read_bytes(), type=Identity)
    except FileNotFoundError:
        kept = Identity(_new_cluster_id(), port or _free_port(), _free_port())
    except msgspec.DecodeError as error:
        raise _corrupt(layout, f"{layout.identity.name} is not readable") from error
    return msgspec.structs.replace(kept, port=port or kept.port)


def _new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _check_port_free(port: int, root: Path) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _port_taken(port, root) from error


def _port_taken(port: int, root: Path) -> ConflictError:
    return ConflictError(
        f"port {port} of {HOST}, which the Kafka of {root} uses, is taken:"
        " stop what listens there, or give another port",
        port=port,
    )


def _format(layout: Layout, identity: Identity, command: list[str]) -> None:
    """Write the settings, and make the folder a Kafka log where it is none yet."""
    layout.properties.write_text(server_properties(identity, layout.log_dir))
    if layout.identity.exists():
        if not (layout.log_dir / "meta.properties").is_file():
            raise _corrupt(layout, "meta.properties is missing")
    else:
        arguments = ["format", "-t", identity.cluster_id, "-c", str(layout.properties)]
        told = subprocess.run(  # noqa: S603
            [*command, "kafka.tools.StorageTool", *arguments, "--ignore-formatted"],
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_S,
            check=False,
        )
        if told.returncode:
            raise _corrupt(layout, told.stderr.strip().splitlines()[-1])
    temporary = layout.identity.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(identity))
    temporary.replace(layout.identity)


def _corrupt(layout: Layout, why: str) -> CorruptError:
    return CorruptError(
        f"{layout.root} is not a folder Kafka can use ({why}): remove it to start with an"
        " empty log, or choose another",
        data_dir=str(layout.root),
    )


def _start_failure(layout: Layout, identity: Identity, exit_code: int | None) -> K2Error:
    output = layout.output.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
    if "Address already in use" in output:
        return _port_taken(identity.port, layout.root)
    if exit_code is None:
        return UnavailableError(
            f"Kafka did not start within {START_TIMEOUT_S:g} s; {layout.output} says more"
        )
    return _corrupt(layout, f"Kafka ended with code {exit_code}; {layout.output.name} says more")
