"""Real service processes for tests: started, watched, stopped, killed, never leaked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.rpc import client
from libs.runtime import doors
from tests.support.polling import PATIENCE_S, eventually, eventually_sync

ROOT = Path(__file__).parents[2]
LAST_LINES = 40
# More than any machine's: memory sets no level but where a test says so. Else the cgroup's would,
# which holds all tests and brokers at once.
ROOMY = "64GiB"
# The kernel kills what it starts when the test run dies.
GUARD = ROOT / "tools/process/guarded.py"


class Process:
    """A Python command in its own process group, its output in `log`; killed with the test run.

    Start it from the main thread: the kernel counts the thread that started it as the parent.
    `name` is also K2_SERVICE_NAME and the name of its door in `run_dir`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        name: str,
        run_dir: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.run_dir = run_dir
        self.log = run_dir / f"{name}.log"
        python = sys.executable
        self._command = [python, "-IS", str(GUARD), str(os.getpid()), python, *arguments]
        self._environment = _environment(name, run_dir, env or {})
        self._popen = self._start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group; to a group that is gone, nothing."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._popen.wait(timeout=PATIENCE_S)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM, wait, and return the exit code; SIGKILL and fail where that takes too long."""
        self._popen.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the process to end by itself, and return the exit code."""
        try:
            return self._popen.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(self._told(f"did not end within {timeout_s:g} s")) from None

    def restart(self) -> None:
        """Start the same command again, after it has ended; the log goes on in the same file."""
        assert not self.alive, f"{self.name} still runs"
        self._popen = self._start()

    async def door(self, timeout_s: float = PATIENCE_S) -> doors.Door:
        """Wait until this process says where it listens."""
        return await eventually(self._own_door, timeout_s, what=f"door of {self.name}")

    async def serving(self, timeout_s: float = PATIENCE_S, *, service: str = "") -> doors.Door:
        """Wait until health is SERVING."""
        door = await self.door(timeout_s)
        assert door.grpc is not None
        async with client.channel(door.grpc) as channel:
            stub = health_pb2_grpc.HealthStub(channel)

            async def healthy() -> bool:
                self._fail_if_ended()
                return await health_of(stub, service) == "SERVING"

            await eventually(healthy, timeout_s, what=f"health of {self.name}")
        return door

    def reached(self, point: str, fault_dir: Path, timeout_s: float = PATIENCE_S) -> None:
        """Wait until this process is held at an armed fault point."""
        mark = fault_dir / f"{point}.{self.pid}.reached"

        def held() -> bool:
            self._fail_if_ended()
            return mark.exists()

        eventually_sync(held, timeout_s, what=f"{self.name} at {point}")

    def end(self) -> None:
        """Leave nothing behind: not the process, nor what it started."""
        self.signal(signal.SIGKILL)
        self._popen.wait(timeout=PATIENCE_S)

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _own_door(self) -> doors.Door | None:
        self._fail_if_ended()
        door = doors.find(self.run_dir).get(self.name)
        return door if door is not None and door.pid == self.pid else None

    def _fail_if_ended(self) -> None:
        if not self.alive:
            raise AssertionError(self._told(f"ended with {self.exit_code}"))

    def _told(self, what: str) -> str:
        last = "\n".join(self.log_text().splitlines()[-LAST_LINES:])
        return f"{self.name} {what}; its log ends:\n{last}"


@contextmanager
def started(
    module: str,
    *,
    name: str,
    run_dir: Path,
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[Process]:
    """Run `python -m module` while the body runs, however the body ends."""
    process = Process(["-m", module, *arguments], name=name, run_dir=run_dir, env=env)
    try:
        yield process
    finally:
        process.end()


async def health_of(stub: health_pb2_grpc.HealthStub, service: str = "") -> str:
    """Ask for the health; "UNREACHABLE" where nobody answers."""
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    except grpc.aio.AioRpcError:
        return "UNREACHABLE"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def arm(fault_dir: Path, point: str) -> None:
    """Hold each process with K2_FAULT_DIR=fault_dir that comes to this point."""
    fault_dir.mkdir(parents=True, exist_ok=True)
    (fault_dir / f"{point}.arm").touch()


def disarm(fault_dir: Path, point: str) -> None:
    """Let go of those held there, and hold nobody any more."""
    (fault_dir / f"{point}.arm").unlink(missing_ok=True)


def _environment(name: str, run_dir: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Nothing of K2's from outside: a test says all that its process reads."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("K2_", "OTEL_"))}
    own = {
        "K2_SERVICE_NAME": name,
        "K2_RUN_DIR": str(run_dir),
        "K2_MEMORY_LIMIT_BYTES": ROOMY,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'protos'}",
    }
    return inherited | own | dict(env)
