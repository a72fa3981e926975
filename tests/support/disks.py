"""A disk of a test's own that can be full or read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SIZE = "32m"


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A small file system in memory, mounted on a folder."""

    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave not one byte free."""
        with self._ballast.open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"\0" * 65_536)
            except OSError:
                return

    def free(self) -> None:
        self._ballast.unlink()

    def forbid_writing(self) -> None:
        mount("-o", "remount,ro", str(self.folder))

    def allow_writing(self) -> None:
        mount("-o", "remount,rw", str(self.folder))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=10)


@contextmanager
def mounted(folder: Path, *, size: str = SIZE) -> Iterator[SmallDisk]:
    """Mount a disk on a folder while the body runs.

    Raises:
        OSError: only root may, and not everywhere.
    """
    try:
        mount("-t", "tmpfs", "-o", f"size={size}", "k2-test", str(folder))
    except subprocess.SubprocessError as error:
        raise OSError(f"no file system can be mounted here: {error}") from error
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Give a disk on the warehouse of the test's own; only root may mount one.

    Ask for it before `writing`, which puts its table there.
    """
    folder = tmp_path / "warehouse"
    folder.mkdir()
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(mounted(folder))
        except OSError as error:
            pytest.skip(str(error))
        yield disk
