"""A child process that never outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_GUARD = Path(__file__).with_name("guarded.py")


class OwnedProcess:
    """A command in a process group of its own, so that Ctrl-C reaches its owner alone.

    The kernel kills it when the thread that started it ends: so a thread of its own starts it and
    then waits for it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        inherit: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [sys.executable, "-IS", str(_GUARD), str(os.getpid()), *command]
        self._log = log
        self._inherit = inherit
        self._environment = environment
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(target=self._keep, name="k2-owned-process", daemon=True)

    def start(self) -> None:
        """Start it.

        Raises:
            OSError: it cannot be started.
        """
        self._keeper.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def pid(self) -> int:
        return self._running().pid

    def exit_code(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self._running().poll()

    def stop(self, *, patience_s: float) -> None:
        """Ask it to end; kill its group where it has not ended after `patience_s`.

        Safe at any time: where an interrupt met its start, what was started is ended.
        """
        if self._keeper.ident is not None:
            self._started.wait()
        child = self._child
        if child is None:
            return
        for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, None)):
            if child.poll() is None:
                _signal_group(child.pid, number)
            try:
                child.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                continue
        self._keeper.join()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError("the process has not been started")
        return self._child

    def _keep(self) -> None:
        try:
            with self._log.open("ab") as log:
                self._child = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=self._inherit,
                    env=self._environment,
                    start_new_session=True,
                )
        except OSError as error:
            self._failure = error
            return
        finally:
            self._started.set()
        self._child.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
