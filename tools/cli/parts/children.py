"""The parts of a running K2 as actors; child processes never outlive their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from libs.market.errors import K2Error, UnavailableError
from libs.runtime.actor import Actor
from libs.runtime.doors import Door, find
from libs.runtime.service import EXIT_RESTART
from tools.process import confined
from tools.process.owned import OwnedProcess

log = structlog.get_logger()

READY_TIMEOUT_S = 180.0
STOP_GRACE_S = 25.0
POLL_S = 0.05
CONFINED = (sys.executable, "-IS", str(Path(confined.__file__)))


class ChildError(K2Error):
    """A child process ended; the message is its own last words."""

    reason = "CHILD_ENDED"


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: `python -m module arguments`, with these variables on top of ours.

    `into` is the cgroup.procs of a cgroup that it is to run in.
    """

    module: str
    arguments: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    into: Path | None = None

    @property
    def words(self) -> list[str]:
        """Return the whole command line."""
        words = [sys.executable, "-m", self.module, *self.arguments]
        return words if self.into is None else [*CONFINED, str(self.into), *words]


class Part(Actor):
    """A part of a running K2.

    Where its very first start fails it says so in `start_failure` and stays as it is: whoever runs
    the parts ends them all, for another try would fail as well.
    """

    start_failure: K2Error | None = None
    _was_up = False

    async def start(self) -> None:
        try:
            await self.begin()
        except K2Error as error:
            if self._was_up:
                raise
            self.start_failure = error
            await asyncio.Event().wait()
        self._was_up = True

    @abstractmethod
    async def begin(self) -> None:
        """Do what `start` does."""


class ChildProcess(Part):
    """Run a command until asked to stop; it is ready when its door is open and `serving` agrees.

    Those `along` are launched with it, so that they load at the same time; each is waited for in
    its own turn.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Command],
        *,
        run_dir: Path,
        log: Path,
        serving: Callable[[Door], Awaitable[bool]],
        along: Sequence[ChildProcess] = (),
    ) -> None:
        self.name = name
        self._command = command
        self._run_dir = run_dir
        self._log = log
        self._serving = serving
        self._along = along
        self._process: OwnedProcess | None = None
        self._stop_asked = asyncio.Event()

    async def begin(self) -> None:
        """Start it and wait until it serves.

        Raises:
            ChildError: it ended instead.
            UnavailableError: it lives, and is not ready in time.
        """
        process = self.launch()
        for other in self._along:
            other.launch()
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await self._is_ready(process):
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            why = last_complaint(self._log) or "it does not say why"
            text = f"{self.name} is not ready after {READY_TIMEOUT_S:g} s: {why}"
            raise UnavailableError(f"{text} (its log: {self._log})", process=self.name) from error

    def launch(self) -> OwnedProcess:
        """Start its process where there is none, without waiting; whoever does must close it."""
        if self._process is None:
            command = self._command()
            self._process = OwnedProcess(
                command.words,
                log=self._log,
                environment={**os.environ, **command.variables},
            )
            self._process.start()
        return self._process

    async def run(self) -> None:
        """Watch it; where it ended in order to be started anew, do that, which is no failure."""
        while not self._stop_asked.is_set():
            assert self._process is not None  # noqa: S101 (for the type checker)
            if self._process.exit_code() == EXIT_RESTART:
                log.warning("started_anew", process=self.name, as_it_asked_in=str(self._log))
                await self.close()
                await self.begin()
            else:
                self._raise_if_ended(self._process)
                await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        self._stop_asked.set()

    async def close(self) -> None:
        """Ask it to end, and kill its whole group where it does not."""
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(process.stop, patience_s=STOP_GRACE_S)

    async def _is_ready(self, process: OwnedProcess) -> bool:
        self._raise_if_ended(process)
        door = find(self._run_dir).get(self.name)
        return door is not None and door.pid == process.pid and await self._serving(door)

    def _raise_if_ended(self, process: OwnedProcess) -> None:
        code = process.exit_code()
        if code is not None:
            text = f"{self.name} {how_it_ended(code, self._log)} (its log: {self._log})"
            raise ChildError(text, process=self.name, exit_code=code)


def how_it_ended(code: int, log: Path) -> str:
    """Name the signal that ended a process, or its code and its last words."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}: {last_words(log)}"


def last_words(log: Path) -> str:
    """Return the last line of a log that is not empty; of a log event, its error."""
    last = next(_lines_back(log), "it said nothing")
    event = _event_of(last)
    return event.error or event.event or last


def last_complaint(log: Path) -> str:
    """Return the last thing a process warned of in its log, empty where it did not."""
    events = (_event_of(line) for line in _lines_back(log))
    complaints = (e.error or e.why for e in events if e.level in ("warning", "error"))
    return next(filter(None, complaints), "")


def _lines_back(log: Path) -> Iterator[str]:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return (line.strip() for line in reversed(lines) if line.strip())


def _event_of(line: str) -> _LogEvent:
    try:
        return msgspec.json.decode(line, type=_LogEvent)
    except msgspec.DecodeError:
        return _LogEvent()


class _LogEvent(msgspec.Struct):
    error: str = ""
    why: str = ""
    event: str = ""
    level: str = ""
