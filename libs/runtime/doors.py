"""Where running services listen: one small JSON file each in the run directory."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from libs.market.errors import ConflictError


@dataclass(frozen=True, slots=True)
class Door:
    """A process and its addresses; `extra` holds those that only this service has."""

    name: str
    service: str
    grpc: str | None = None
    metrics: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    pid: int = field(default_factory=os.getpid)
    # Process ids are used again; with the start time they are not.
    process_started_s: float = field(default_factory=lambda: psutil.Process().create_time())

    @property
    def open(self) -> bool:
        """True while the process that published it lives; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and process.create_time() == self.process_started_s
        except psutil.NoSuchProcess:
            return False


def publish(run_dir: Path, door: Door) -> None:
    """Write the door in one step: readers see all of it or nothing.

    Raises:
        ConflictError: another living process has this name.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = _path(run_dir, door.name)
    before = _read(path)
    if before is not None and before.open and before.pid != door.pid:
        text = f"{door.name} runs already as process {before.pid}; stop it or take another name"
        raise ConflictError(text, name=door.name, pid=before.pid)
    draft = run_dir / f".{door.name}.{door.pid}.draft"
    draft.write_bytes(msgspec.json.encode(door))
    draft.replace(path)


def withdraw(run_dir: Path, door: Door) -> None:
    """Remove the door where it is still this process's."""
    path = _path(run_dir, door.name)
    found = _read(path)
    if found is not None and found.pid == door.pid:
        path.unlink(missing_ok=True)


def find(run_dir: Path) -> dict[str, Door]:
    """Doors of living processes, by name; those a killed process left are passed over.

    So is a file that is no door: `unreadable` names it.
    """
    doors = (_read(path) for path in _paths(run_dir))
    return {door.name: door for door in doors if door is not None and door.open}


def unreadable(run_dir: Path) -> tuple[Path, ...]:
    """Files where a door should be, and that are none."""
    return tuple(path for path in _paths(run_dir) if path.exists() and _read(path) is None)


def _paths(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob("*.json"))


def _path(run_dir: Path, name: str) -> Path:
    return run_dir / f"{name}.json"


def _read(path: Path) -> Door | None:
    with suppress(FileNotFoundError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Door)
    return None
