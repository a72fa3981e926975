"""No process outlives its test, however the test ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.polling import eventually_sync
from tests.support.processes import ROOT, Process, started

PARENT = """
import sys, time
from pathlib import Path
from tests.support.processes import Process
print(Process(["-m", "tests.support.toy"], name="toy-1", run_dir=Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_process_ends_with_a_failing_body(tmp_path: Path) -> None:
    """The test's own error comes out, the process is gone."""
    held: list[Process] = []

    def fail() -> None:
        with started("tests.support.toy", name="toy-1", run_dir=tmp_path) as process:
            held.append(process)
            process.pause()
            raise AssertionError("the test fails")

    with pytest.raises(AssertionError, match="the test fails"):
        fail()
    assert gone(held[0].pid)


def test_process_dies_with_a_killed_test_run(tmp_path: Path) -> None:
    """SIGKILL leaves nobody to clean up; the kernel does it."""
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        eventually_sync(lambda: "serving" in (tmp_path / "toy-1.log").read_text(), 30)
        parent.kill()

    eventually_sync(lambda: gone(child), 10)
