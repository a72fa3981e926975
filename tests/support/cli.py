"""The `k2` command as people run it: in a folder of its own, with what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.support.polling import eventually_sync
from tests.support.processes import GUARD
from tools.kafka.artifacts import tools_dir

COMMAND = Path(sys.executable).with_name("k2")
COMMAND_TIMEOUT_S = 240.0
START_TIMEOUT_S = 300.0
END_TIMEOUT_S = 240.0
WIDE = "200"
# Endless, so that there is always something to follow; small, for machines that do more.
GENERATED = ("--generate", "5", "--symbols", "3", "--rate", "200", "--flush-after-s", "1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    output: bytes
    said: str

    @property
    def text(self) -> str:
        return self.output.decode()


@dataclass(slots=True)
class Running:
    """A command under way, its output in a file."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text()

    def until(self, words: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it has printed these words."""

        def printed() -> bool:
            assert words in self.text or self.process.poll() is None, self.text
            return words in self.text

        eventually_sync(printed, timeout_s, what=f"{words!r} from k2, which said {self.text!r}")

    def end(self, number: signal.Signals, timeout_s: float = END_TIMEOUT_S) -> int:
        """Send it a signal, wait, and return its exit code."""
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = END_TIMEOUT_S) -> int:
        return self.process.wait(timeout_s)


@dataclass(frozen=True, slots=True)
class Home:
    """A folder where K2 runs, and no other K2 is seen from; Kafka's jars are shared."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / ".k2"

    @property
    def environment(self) -> dict[str, str]:
        ours = ("K2_", "OTEL_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        own = {"K2_HOME": str(self.root), "K2_TOOLS_DIR": str(tools_dir()), "COLUMNS": WIDE}
        return {**inherited, **own, **self.variables}

    def k2(self, *words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Run a command to its end."""
        done = subprocess.run(
            [COMMAND, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr.decode())

    @contextmanager
    def started(self, *words: str, columns: str = WIDE) -> Iterator[Running]:
        """Run a command while the body runs; it and its children are gone afterwards."""
        log = self.folder / f"{words[0]}.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-IS", GUARD, str(os.getpid()), COMMAND, *words],
                cwd=self.folder,
                env={**self.environment, "COLUMNS": columns},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Running(process, log)
        finally:
            process.kill()
            process.wait()
            # What K2 starts dies with it, by the kernel's hand.
            eventually_sync(lambda: not self.processes(), END_TIMEOUT_S, what="no process left")

    def processes(self) -> list[str]:
        """Return the command lines of all processes that run here."""
        return [" ".join(process.cmdline()) for process in self._processes()]

    def listening(self) -> list[int]:
        """Return the ports that these processes listen on."""
        connections = [c for p in self._processes() for c in p.net_connections("tcp")]
        return [c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN]

    def _processes(self) -> Sequence[psutil.Process]:
        return [process for process in psutil.process_iter() if self._runs_here(process)]

    def _runs_here(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            here = process.environ().get("K2_HOME") == str(self.root)
            return here and process.status() != psutil.STATUS_ZOMBIE
        return False


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Give an empty folder for K2."""
    return Home(tmp_path)


@pytest.fixture(scope="module")
def k2_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Give the home of a K2 that is up for all tests of a file, with a row for every symbol."""
    home = Home(tmp_path_factory.mktemp("k2-up"))
    with home.started("up", *GENERATED) as up:
        up.until("K2 is up")
        eventually_sync(lambda: len(snapshots(home)) >= 2, what="two commits")
        yield home
        up.end(signal.SIGTERM)


def snapshots(home: Home) -> list[str]:
    return home.k2("snapshots", "-o", "json").text.splitlines()
