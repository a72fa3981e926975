"""Where K2 keeps what it runs on, and which running K2 a command speaks to.

.k2/               K2_HOME
├── tools/         downloads, shared by every run
├── up/            data/ and run/ of `k2 up`
├── demo/<pid>/    data/ and run/ of one `k2 demo`
└── chaos/<pid>-…/ data/ and run/ of one `k2 chaos`
"""

from __future__ import annotations

import os
from pathlib import Path

from libs.market.errors import UnavailableError
from libs.runtime.doors import Door, find, unreadable

NOT_RUNNING = "K2 is not running here: start it with `k2 up --detach` or `make demo`"


def home() -> Path:
    """Return the folder of everything K2 keeps: K2_HOME, or .k2 in this folder."""
    return Path(os.environ.get("K2_HOME") or ".k2").resolve()


def run_dirs() -> list[Path]:
    """Return the run folders of every K2 started from here, `k2 up` first, then the newest one."""
    given = os.environ.get("K2_RUN_DIR")
    return [Path(given)] if given else [home() / "up" / "run", *_newest_first("demo", "chaos")]


def _newest_first(*kinds: str) -> list[Path]:
    folders = [folder for kind in kinds for folder in home().glob(f"{kind}/*/run")]
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)


def running() -> dict[str, Door]:
    """Return the doors of the running K2, by process name; none where nothing runs."""
    for run_dir in run_dirs():
        doors = find(run_dir) if run_dir.is_dir() else {}
        if doors:
            return doors
    return {}


def damaged() -> list[str]:
    """Say which files of the running K2 are no address files, a sentence each."""
    folders = filter(Path.is_dir, run_dirs())
    return [
        f"{path} is not an address file of K2, passed over: remove it"
        for folder in folders
        for path in unreadable(folder)
    ]


def given_address(service: str) -> str | None:
    """Return K2_<SERVICE>_ADDRESS."""
    return os.environ.get(f"K2_{service.upper()}_ADDRESS") or None


def address_of(service: str) -> str:
    """Return the gRPC address of a service: K2_<SERVICE>_ADDRESS, or that of the running K2.

    Raises:
        UnavailableError: nothing runs here and no address is given.
    """
    given = given_address(service)
    if given:
        return given
    for door in running().values():
        if door.service == service and door.grpc:
            return door.grpc
    raise UnavailableError(
        f"{NOT_RUNNING}, or say where it is with K2_{service.upper()}_ADDRESS=host:port",
        service=service,
    )


def addresses_of(service: str) -> list[str]:
    """Return the gRPC addresses of all processes of a service.

    Raises:
        UnavailableError: nothing runs here and no address is given.
    """
    first = address_of(service)
    if given_address(service):
        return [first]
    return [door.grpc for door in running().values() if door.service == service and door.grpc]
