"""The real grpcurl, installed once by Go where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from libs.wire.filelock import exclusive
from tools.kafka.artifacts import tools_dir

MODULE = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
INSTALL_TIMEOUT_S = 240
ATTEMPTS = 3


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    """Give grpcurl's path; skip where it cannot be had."""
    folder = tools_dir() / "grpcurl-1.9.3"
    command = folder / "grpcurl"
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "install.lock"):
        if not command.exists():
            _install(folder)
    return command


def _install(folder: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go to install grpcurl with")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            done = subprocess.run(
                [go, "install", MODULE],
                env={**os.environ, "GOBIN": str(folder)},
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"Go did not install grpcurl within {INSTALL_TIMEOUT_S} s")
        if done.returncode == 0:
            return
        if attempt == ATTEMPTS:
            pytest.skip(f"Go could not install grpcurl: {done.stderr.strip()}")
