"""A data folder of Kafka: who has it, what it keeps, and whether Kafka can use it."""

from __future__ import annotations

import base64
import fcntl
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from libs.market.errors import ConflictError, CorruptError, UnavailableError
from libs.telemetry.ports import CannotListenError, free_port, lasting_port
from tools.kafka.settings import HOST, Identity, Layout, server_properties

LOCK_TIMEOUT_S = 10.0
FORMAT_TIMEOUT_S = 240.0
_POLL_S = 0.02


def wait(ready: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until it is ready; say whether it was in time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if ready():
            return True
        time.sleep(_POLL_S)
    return False


def take(layout: Layout) -> BinaryIO:
    """Lock the folder until the file returned is closed, here and in who inherits it."""
    layout.root.mkdir(parents=True, exist_ok=True)
    lock = layout.lock.open("ab")
    if not wait(lambda: _locked(lock), LOCK_TIMEOUT_S):
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


def prepare(layout: Layout, port: int, java_command: list[str]) -> Identity:
    """Make the folder one that Kafka can start on, and say its identity.

    Raises:
        ConflictError: something listens on its port.
        CorruptError: it is not a folder of Kafka, or a damaged one.
        UnavailableError: making its empty log takes too long.
    """
    identity = _identity(layout, port)
    _check_port_free(identity.port, layout.root)
    _write(layout.identity, msgspec.json.encode(identity))
    _write(layout.properties, server_properties(identity, layout.log_dir).encode())
    if not layout.log_dir.exists():
        _format(layout, identity, java_command)
    if not (layout.log_dir / "meta.properties").is_file():
        raise corrupt(layout, "log/meta.properties is missing")
    return identity


def _identity(layout: Layout, port: int) -> Identity:
    """Read what the folder keeps, or decide it; a port asked for replaces the kept one."""
    try:
        kept = msgspec.json.decode(layout.identity.read_bytes(), type=Identity)
    except FileNotFoundError as error:
        if layout.log_dir.exists():
            raise corrupt(layout, f"{layout.identity.name} is missing") from error
        kept = Identity(new_cluster_id(), port or lasting_port(), lasting_port())
    except msgspec.DecodeError as error:
        raise corrupt(layout, f"{layout.identity.name} is not readable") from error
    return msgspec.structs.replace(kept, port=port or kept.port)


def new_cluster_id(random_bytes: Callable[[], bytes] = lambda: uuid.uuid4().bytes) -> str:
    """Make one that does not begin with a dash: Kafka's tool would take it for an option."""
    while (made := base64.urlsafe_b64encode(random_bytes()).rstrip(b"=").decode()).startswith("-"):
        continue
    return made


def _check_port_free(port: int, root: Path) -> None:
    try:
        free_port(f"{HOST}:{port}")
    except CannotListenError as error:
        raise port_taken(port, root) from error


def _format(layout: Layout, identity: Identity, java_command: list[str]) -> None:
    """Make an empty log aside and move it into place: interrupted, it has not begun."""
    fresh = layout.log_dir.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    settings = layout.properties.with_suffix(".format")
    _write(settings, server_properties(identity, fresh).encode())
    arguments = ["format", "-t", identity.cluster_id, "-c", str(settings)]
    try:
        told = subprocess.run(
            [*java_command, "kafka.tools.StorageTool", *arguments],
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        text = f"Kafka did not make its log in {layout.root} within {FORMAT_TIMEOUT_S:g} s"
        raise UnavailableError(text) from error
    if told.returncode:
        raise corrupt(layout, told.stderr.strip().rpartition("\n")[2])
    settings.unlink()
    fresh.rename(layout.log_dir)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def port_taken(port: int, root: Path) -> ConflictError:
    return ConflictError(
        f"port {port} of {HOST}, which the Kafka of {root} uses, is taken:"
        " stop what listens there, or give another port",
        port=port,
    )


def corrupt(layout: Layout, why: str) -> CorruptError:
    return CorruptError(
        f"{layout.root} is not a folder Kafka can use ({why}): remove it to start with an"
        " empty log, or choose another",
        data_dir=str(layout.root),
    )
