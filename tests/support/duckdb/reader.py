"""DuckDB's own Iceberg reader, of another version than K2's: a process and a folder of its own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.wire.filelock import exclusive
from tools.kafka.artifacts import tools_dir

LOCK = Path(__file__).with_name("requirements.lock")
SCAN = Path(__file__).with_name("scan.py")
INSTALL_TIMEOUT_S = 300
SCAN_TIMEOUT_S = 240


@dataclass(frozen=True, slots=True)
class DuckDbIceberg:
    """`packages` is the folder that DuckDB 1.5 and its extensions are installed in."""

    packages: Path

    def rows(self, metadata_location: str, answer: Path) -> pa.Table:
        """Return what DuckDB reads of a table, by way of a Parquet file at `answer`."""
        python = [sys.executable, "-S", str(SCAN)]
        command = [*python, str(self.packages), metadata_location, str(answer)]
        environment = {"PYTHONPATH": str(self.packages)}
        subprocess.run(command, env=environment, check=True, timeout=SCAN_TIMEOUT_S)
        return pq.read_table(answer)


def installed() -> DuckDbIceberg:
    """Install what is locked, once for all runs."""
    version = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = tools_dir() / f"duckdb-iceberg-{version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_suffix(".lock")):
        if not (folder / ".installed").exists():
            _install(folder)
            (folder / ".installed").touch()
    return DuckDbIceberg(folder)


def _install(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    patient = ["--disable-pip-version-check", "--retries", "10", "--timeout", "30"]
    locked = ["--require-hashes", "-r", str(LOCK), "--target", str(folder)]
    try:
        subprocess.run(
            [*pip, *patient, *locked],
            capture_output=True,
            text=True,
            check=True,
            timeout=INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"pip did not install DuckDB's reader within {INSTALL_TIMEOUT_S} s")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"pip could not install DuckDB's reader: {error.stderr.strip()}")
