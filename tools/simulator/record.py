"""Record a live connection's session: gzip lines `<recv_unix_ns> <raw combined-stream message>`.

The file is a row of gzip members, each finished and synced after about a second, so that a recorder
that is killed leaves a file whose finished members are whole. gzip readers take them for one file.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from libs.market.errors import ConflictError, InvalidError
from tools.simulator.chunk import Line

_MEMBER_S = 1.0
_MEMBER_BYTES = 4 << 20
_OPEN_TIMEOUT_S = 10.0
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 30.0
# The exchange pings every 20 s; a connection silent for longer than that is dead.
_SILENCE_S = 60.0


@dataclass(slots=True)
class RecordingState:
    """How a recording goes; for who shows it."""

    messages: int = 0
    bytes_written: int = 0
    connections: int = 0
    problem: str = ""


class RecordingFile:
    """Appends lines to a new file; what was flushed survives a crash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        self._flushed_s = time.monotonic()

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("xb")
        except FileExistsError as error:
            text = f"{self._path} is there already; name another file"
            raise ConflictError(text, path=self._path) from error
        except OSError as error:
            why = f"{error.strerror}; name a file in a folder that is there"
            text = f"cannot write {self._path}: {why}"
            raise InvalidError(text, field="out") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        self._file.close()

    def add(self, received_ns: int, message: bytes) -> None:
        line = b"%d %s\n" % (received_ns, message)
        self._lines.append(line)
        self._waiting_bytes += len(line)

    @property
    def is_full(self) -> bool:
        """Return whether enough waits for a member; by size alone, so that files reproduce."""
        return self._waiting_bytes >= _MEMBER_BYTES

    @property
    def is_flush_due(self) -> bool:
        is_old = time.monotonic() - self._flushed_s >= _MEMBER_S
        return bool(self._lines) and (is_old or self.is_full)

    def flush(self) -> int:
        """Write what waits as one gzip member, synced to disk; return its size."""
        self._flushed_s = time.monotonic()
        if not self._lines:
            return 0
        member = gzip.compress(b"".join(self._lines), compresslevel=6, mtime=0)
        self._lines.clear()
        self._waiting_bytes = 0
        self._file.write(member)
        self._file.flush()
        os.fsync(self._file.fileno())
        return len(member)


def write_session(session: Iterable[Line], path: Path) -> None:
    """Write a session as a recording.

    Raises:
        ConflictError: the file is there already.
        InvalidError: the file cannot be written.
    """
    with RecordingFile(path) as file:
        for received_ns, message in session:
            file.add(received_ns, message)
            if file.is_full:
                file.flush()


async def record(
    url: str,
    streams: Sequence[str],
    path: Path,
    *,
    stop: asyncio.Event,
    time_unit: str = "MILLISECOND",
    on_flush: Callable[[RecordingState], None] = lambda _: None,
) -> RecordingState:
    """Record `streams` of the exchange at `url` until `stop` is set, reconnecting as needed.

    Messages missed between two connections are missing in the recording.

    Raises:
        ConflictError: the file is there already.
        InvalidError: the file cannot be written.
    """
    state = RecordingState()
    address = f"{url.rstrip('/')}/stream?streams={'/'.join(streams)}&timeUnit={time_unit}"
    with RecordingFile(path) as file:
        recording = asyncio.create_task(_record(address, file, state, on_flush))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({recording, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (recording, stopping):
                task.cancel()
            await asyncio.gather(recording, stopping, return_exceptions=True)
        if not recording.cancelled() and (error := recording.exception()) is not None:
            raise error
    return state


async def _record(
    address: str,
    file: RecordingFile,
    state: RecordingState,
    on_flush: Callable[[RecordingState], None],
) -> None:
    backoff_s = _FIRST_BACKOFF_S
    while True:
        before = state.messages
        try:
            async with connect(
                address, open_timeout=_OPEN_TIMEOUT_S, max_size=None, compression=None
            ) as connection:
                state.connections += 1
                await _read(connection, file, state, on_flush)
        except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError) as error:
            state.problem = str(error) or type(error).__name__
            backoff_s = _FIRST_BACKOFF_S if state.messages > before else backoff_s * 2
        # Jitter, not a secret.
        await asyncio.sleep(min(backoff_s, _LONGEST_BACKOFF_S) * random.uniform(0.5, 1.0))  # noqa: S311


async def _read(
    connection: ClientConnection,
    file: RecordingFile,
    state: RecordingState,
    on_flush: Callable[[RecordingState], None],
) -> None:
    silent_since_s = time.monotonic()
    while time.monotonic() - silent_since_s < _SILENCE_S:
        try:
            async with asyncio.timeout(_MEMBER_S):
                message = await connection.recv(decode=False)
        except TimeoutError:
            pass
        else:
            file.add(time.time_ns(), message)
            state.messages += 1
            silent_since_s = time.monotonic()
        if file.is_flush_due:
            state.bytes_written += file.flush()
            on_flush(state)
