"""What waits for Kafka: a little in memory, the rest in the spool; first in, first out.

While Kafka takes what comes, all goes through memory, and who brings more waits a moment. Once
Kafka has been silent for a while, what comes goes to the spool, and so does all that follows until
the spool is empty: the order stays. A full spool makes its writer wait: nothing is dropped here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog

from services.ingestor import measures
from services.ingestor.delivering.records import Records
from services.ingestor.spool.spool import Found, Segment, Spool, SpoolFullError

log = structlog.get_logger()
T = TypeVar("T")

MOST_WAITING_RECORDS = 32_768
# Kafka silent for so long is taken for away.
SPOOL_AFTER_S = 1.0
LOOK_AGAIN_S = 0.1
# Below this share of its bound a spool that was full counts as having room again.
ROOM_AGAIN_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Portion:
    """Records to deliver next; those of a file are forgotten once Kafka has them all."""

    records: Sequence[Records]
    segment: Segment | None = None


class Backlog:
    """One puts, one takes. Ordinals count records since the start, those found there included."""

    def __init__(
        self,
        spool: Spool,
        *,
        silent_s: Callable[[], float],
        spool_after_s: float = SPOOL_AFTER_S,
    ) -> None:
        self._spool = spool
        self._silent_s = silent_s
        self._spool_after_s = spool_after_s
        self._queue: deque[Sequence[Records]] = deque()
        self._queued_records = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._ending = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self.accepted = 0
        self.full_because = ""

    @property
    def waiting(self) -> int:
        """Records that nobody has taken yet, or that are in a file."""
        return self._queued_records + self._spool.records

    @property
    def idle(self) -> bool:
        return not self._queue and self._spool.empty

    @property
    def spooled_bytes(self) -> int:
        return self._spool.size_bytes

    @property
    def most_bytes(self) -> int:
        return self._spool.most_bytes

    @property
    def spooled_records(self) -> int:
        return self._spool.records

    @property
    def full(self) -> bool:
        """True from a refusal of the spool until there is room to speak of."""
        return bool(self.full_because)

    async def open(self) -> Found:
        """Find what an earlier process left; it goes first."""
        found = await self._blocking(self._spool.open)
        self.accepted += found.records
        self._show()
        return found

    async def put(self, records: Sequence[Records]) -> None:
        """Take records over, waiting while neither memory nor spool has room."""
        filled = [one for one in records if len(one)]
        while filled and not await self._taken(filled):
            await self._look_again()
        self.accepted += sum(map(len, filled))
        self._arrived.set()

    async def next(self) -> Portion | None:
        """Return what to deliver next, waiting for it; None once ending and empty."""
        while True:
            self._arrived.clear()
            if self._queue:
                records = self._queue.popleft()
                self._queued_records -= sum(map(len, records))
                self._room.set()
                return Portion(records)
            if not self._spool.empty and (taken := await self._blocking(self._spool.take)):
                return Portion(taken[1], taken[0])
            if self._ending and not self._queue:
                return None
            await self._arrived.wait()

    async def forget(self, segment: Segment) -> None:
        """Delete a file of which Kafka has everything."""
        await self._blocking(lambda: self._spool.forget(segment))
        self._notice_room()
        self._room.set()

    def end(self) -> None:
        """No more will come; whoever takes may go once all is taken."""
        self._ending = True
        self._arrived.set()

    async def keep(self, rest: Sequence[Records]) -> int:
        """Write `rest`, which was taken, and what is in memory to the front; says how many.

        Raises:
            SpoolFullError: the disk takes nothing.
        """
        records = [*rest, *(one for portion in self._queue for one in portion)]
        if records:
            await self._blocking(lambda: self._spool.put_first(records))
        self._queue.clear()
        self._queued_records = 0
        return sum(map(len, records))

    async def close(self) -> None:
        await self._blocking(self._spool.close)
        self._thread.shutdown()

    async def _taken(self, records: Sequence[Records]) -> bool:
        if not self._spool.empty or self._silent_s() >= self._spool_after_s:
            return await self._spooled(records)
        # Nothing is in files: whatever made the disk refuse, there is no full spool.
        self.full_because = ""
        if self._queued_records >= MOST_WAITING_RECORDS:
            return False
        self._queue.append(records)
        self._queued_records += sum(map(len, records))
        return True

    async def _spooled(self, records: Sequence[Records]) -> bool:
        try:
            await self._blocking(lambda: self._spool.append(records))
        except SpoolFullError as error:
            if not self.full_because:
                log.warning("spool_full", because=error.message, records=self.waiting)
            self.full_because = error.message
            return False
        self._notice_room()
        return True

    async def _look_again(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                self._room.clear()
                await self._room.wait()

    async def _blocking(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _notice_room(self) -> None:
        if self._spool.size_bytes < ROOM_AGAIN_SHARE * self._spool.most_bytes:
            self.full_because = ""
        self._show()

    def _show(self) -> None:
        measures.SPOOL_BYTES.set(self._spool.size_bytes)
        measures.SPOOL_RECORDS.set(self._spool.records)
