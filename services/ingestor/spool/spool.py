"""The spool: files of records in a folder of the ingestor's own. Blocking: call it in a thread.

    <number>.spool   entries, oldest file first; the last one is written on
    <number>.torn    what could not be read of a file, set aside; <number>.1.torn where there is one
    lock             held while an ingestor uses the folder

What `append` has taken is with the operating system, so that a killed process loses none of it;
it is on the disk (fsync) a second later, when a file is full, and when the spool is closed.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from itertools import chain, count
from pathlib import Path

from libs.market.clock import Clock
from libs.market.errors import ConflictError, CorruptError, ExhaustedError
from libs.runtime.faultpoint import reach_sync
from services.ingestor.delivering.records import Records
from services.ingestor.spool.entries import (
    IdRun,
    Torn,
    decode_entry,
    encode_entry,
    facts_of,
    payloads,
)

SEGMENT_BYTES = 4 * 1024 * 1024
SYNC_EVERY_S = 1.0
# Room below it for what is put before all others when an ingestor stops.
FIRST_NUMBER = 10**9
SUFFIX, TORN_SUFFIX = ".spool", ".torn"


class SpoolFullError(ExhaustedError):
    """The spool takes no more: its bound is reached, or the disk takes nothing."""

    reason = "SPOOL_FULL"


@dataclass(slots=True)
class Segment:
    """One file; `size_bytes` of it are whole entries."""

    number: int
    path: Path
    size_bytes: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class TornFile:
    """What could not be read of a file, and where it lies now."""

    path: Path
    lost_bytes: int
    because: str


@dataclass(slots=True)
class Found:
    """What an earlier process left."""

    records: int = 0
    size_bytes: int = 0
    runs: list[IdRun] = field(default_factory=list)
    torn: list[TornFile] = field(default_factory=list)


class Spool:
    """Appends at the end, takes whole files from the front."""

    def __init__(
        self, folder: Path, most_bytes: int, clock: Clock, *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._segments: deque[Segment] = deque()
        self._lock: FileIO | None = None
        self._file: FileIO | None = None
        self._synced_s = 0.0

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in list(self._segments))

    @property
    def records(self) -> int:
        return sum(segment.records for segment in list(self._segments))

    @property
    def empty(self) -> bool:
        return not self._segments

    def open(self) -> Found:
        """Take the folder, and find what is in it; what is torn is set aside and named.

        Raises:
            ConflictError: another ingestor uses the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder / "lock")
        found = Found()
        self._segments = deque(
            _read(path, found) for path in sorted(self.folder.glob(f"*{SUFFIX}"))
        )
        for segment in [one for one in self._segments if not one.size_bytes]:
            segment.path.unlink()
            self._segments.remove(segment)
        return found

    def append(self, records: Sequence[Records]) -> None:
        """Take records, all or none.

        Raises:
            SpoolFullError: there is no room for them.
        """
        data = b"".join(map(encode_entry, records))
        used_bytes = self.size_bytes
        if used_bytes + len(data) > self.most_bytes:
            raise SpoolFullError(
                f"{used_bytes} of {self.most_bytes} bytes are used, {len(data)} do not fit",
                folder=str(self.folder),
            )
        try:
            self._write(data, sum(map(len, records)))
        except OSError as error:
            self._abandon()
            raise SpoolFullError(
                f"{self.folder} takes nothing: {error.strerror}", folder=str(self.folder)
            ) from error

    def take(self) -> tuple[Segment, list[Records]] | None:
        """Read the oldest file; it stays until it is forgotten. None where there is none.

        Raises:
            CorruptError: it is not what was written; the next process sets the torn part aside.
        """
        if not self._segments:
            return None
        segment = self._segments[0]
        if len(self._segments) == 1:
            self._seal()
        data = segment.path.read_bytes()[: segment.size_bytes]
        return segment, [_whole(found, segment) for found in payloads(data)]

    def forget(self, segment: Segment) -> None:
        """Delete the oldest file: Kafka has all of it."""
        reach_sync("ingestor-before-forget")
        segment.path.unlink()
        self._segments.remove(segment)

    def put_first(self, records: Sequence[Records]) -> None:
        """Keep records that came before all that is here, whatever the bound.

        Raises:
            SpoolFullError: the disk takes nothing.
        """
        number = self._segments[0].number - 1 if self._segments else FIRST_NUMBER
        segment = Segment(number, self._path(number))
        data = b"".join(map(encode_entry, records))
        try:
            with segment.path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SpoolFullError(
                f"{self.folder} takes nothing: {error.strerror}", folder=str(self.folder)
            ) from error
        segment.size_bytes, segment.records = len(data), sum(map(len, records))
        self._segments.appendleft(segment)

    def close(self) -> None:
        self._seal()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _write(self, data: bytes, records: int) -> None:
        file = self._writable()
        _write_all(file, data)
        now_s = self._clock.monotonic_s()
        if now_s - self._synced_s >= SYNC_EVERY_S:
            os.fsync(file.fileno())
            self._synced_s = now_s
        segment = self._segments[-1]
        segment.size_bytes += len(data)
        segment.records += records

    def _writable(self) -> FileIO:
        if self._file is not None and self._segments[-1].size_bytes >= self._segment_bytes:
            self._seal()
        if self._file is None:
            number = self._segments[-1].number + 1 if self._segments else FIRST_NUMBER
            segment = Segment(number, self._path(number))
            self._file = FileIO(str(segment.path), "wb")
            self._segments.append(segment)
        return self._file

    def _seal(self) -> None:
        """Write no more to the last file."""
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                os.fsync(file.fileno())

    def _abandon(self) -> None:
        """Leave what could not be written: the file ends with its last whole entry."""
        if self._file is None:
            return
        file, self._file = self._file, None
        segment = self._segments[-1]
        with file:
            file.truncate(segment.size_bytes)
        if not segment.size_bytes:
            segment.path.unlink()
            self._segments.pop()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012}{SUFFIX}"


def _write_all(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]


def _locked(path: Path) -> FileIO:
    file = FileIO(str(path), "wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        text = f"another ingestor uses {path.parent}: give each a K2_INGESTOR_SPOOL_DIR of its own"
        raise ConflictError(text, folder=str(path.parent)) from error
    return file


def _read(path: Path, found: Found) -> Segment:
    """Read a file that an earlier process wrote, and cut it where it is torn."""
    data = path.read_bytes()
    segment = Segment(int(path.stem), path, len(data))
    for payload in payloads(data):
        if isinstance(payload, Torn):
            found.torn.append(_set_aside(path, data, payload))
            segment.size_bytes = payload.at_byte
        else:
            facts = facts_of(payload)
            segment.records += facts.records
            found.runs += facts.runs
    found.records += segment.records
    found.size_bytes += segment.size_bytes
    return segment


def _whole(found: memoryview | Torn, segment: Segment) -> Records:
    if isinstance(found, Torn):
        raise CorruptError(f"{segment.path}: {found.because}", file=str(segment.path))
    return decode_entry(found)


def _free(path: Path) -> Path:
    """Name a file that is not there yet: numbers are given again once the spool is empty."""
    later = (f".{number}{TORN_SUFFIX}" for number in count(1))
    names = (path.with_suffix(suffix) for suffix in chain([TORN_SUFFIX], later))
    return next(name for name in names if not name.exists())


def _set_aside(path: Path, data: bytes, torn: Torn) -> TornFile:
    aside = _free(path)
    # On a full disk too the rest is to be read.
    with suppress(OSError):
        aside.write_bytes(data[torn.at_byte :])
    os.truncate(path, torn.at_byte)
    return TornFile(aside, len(data) - torn.at_byte, torn.because)
