"""Memory cgroups of our own making: the kernel holds a process to its limit, and kills it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from libs.degradation.memory import CGROUPS, OWN_CGROUP, V1, V2, CgroupVersion, own_path
from libs.market.errors import UnavailableError

PROCS = "cgroup.procs"


@contextmanager
def memory_cgroups(
    family: str,
    names: Sequence[str],
    limit_bytes: int,
    *,
    cgroups: Path = CGROUPS,
    own: Path = OWN_CGROUP,
) -> Iterator[Mapping[str, Path]]:
    """Make one for each name while the body runs; give the file that lets a process in, by name.

    Those of the family that a process has left which was killed are removed.

    Raises:
        UnavailableError: none can be made here.
    """
    with ExitStack() as stack:
        try:
            version, parent = where_to_make(cgroups, own)
            _remove_left(parent, family)
            mine = f"{family}-{os.getpid()}"
            made = {
                name: _made(version, parent / f"{mine}-{name}", limit_bytes, stack)
                for name in names
            }
        except OSError as error:
            text = f"no memory cgroup can be made here (it takes root): {error}"
            raise UnavailableError(text) from error
        yield made


def where_to_make(cgroups: Path, own: Path) -> tuple[CgroupVersion, Path]:
    """Find where memory is counted: below this process, in version 2 beside it.

    A cgroup of version 2 has processes or cgroups, the root alone has both.
    """
    text = own.read_text()
    first = own_path(V1, text)
    if first is not None:
        here = cgroups / V1.folder / first
        return V1, here if here.is_dir() else cgroups / V1.folder
    parent = cgroups / (own_path(V2, text) or Path()).parent
    control = parent / "cgroup.subtree_control"
    if "memory" not in control.read_text().split():
        control.write_text("+memory")
    return V2, parent


def _remove_left(parent: Path, family: str) -> None:
    for folder in parent.glob(f"{family}-*-*"):
        owner = folder.name.removeprefix(f"{family}-").partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            _remove(folder)


def _made(version: CgroupVersion, folder: Path, limit_bytes: int, stack: ExitStack) -> Path:
    folder.mkdir(exist_ok=True)
    stack.callback(_remove, folder)
    (folder / version.limit).write_text(str(limit_bytes))
    return folder / PROCS


def _remove(folder: Path) -> None:
    """Remove it; where a process is still in it, it stays."""
    with suppress(OSError):
        folder.rmdir()
