"""What was recorded, read back from the topic: bounded in time, in number and in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from libs.market.errors import ExhaustedError, InvalidError, NotFoundError, UnavailableError
from services.governor.record.records import SNAPSHOTS, Kind, Placed, encode
from services.governor.record.topic import Topic, TopicReader

READERS = 4
READ_TIMEOUT_S = 20.0
LONGEST_US = 7 * 86_400_000_000
PAGE_BYTES = 1_048_576
# As far back as an explanation looks for what changed the level.
CHANGES_WITHIN_US = 600_000_000
MOST_CHANGES = 8


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where the next page begins, and what it is a page of."""

    offset: int
    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class Page:
    records: list[Placed]
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class Told:
    """The newest sample up to a time, and the changes of level before it, the newest first."""

    sample: Placed
    changes: list[Placed]


class History:
    """Reads the topic on a connection of its own for each question."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._reading = 0

    async def page(self, cursor: Cursor, kinds: frozenset[Kind], most: int) -> Page:
        """Read a page, the oldest first.

        Raises:
            InvalidError: the time ends before it begins, or is longer than a week.
            ExhaustedError: too many read at once; UnavailableError: Kafka does not tell.
        """
        if not 0 <= cursor.to_us - cursor.from_us <= LONGEST_US:
            raise InvalidError("the time must end after it begins, within a week", field="to_time")
        async with aclosing(self._between(cursor)) as records:
            return await _fill(records, cursor, kinds, most)

    async def told(self, at_us: int) -> Told:
        """Find what was recorded of a moment.

        Raises:
            NotFoundError: nothing was, or the topic keeps it no more.
        """
        window = Cursor(0, at_us - CHANGES_WITHIN_US, at_us)
        async with aclosing(self._between(window)) as records:
            found = [placed async for placed in records if placed.record.kind in SNAPSHOTS]
        if not found:
            raise NotFoundError("no governor has recorded anything in the ten minutes up to then")
        return Told(found[-1], changes(found)[:MOST_CHANGES])

    async def _between(self, cursor: Cursor) -> AsyncGenerator[Placed]:
        if self._reading >= READERS:
            raise ExhaustedError(f"{READERS} others read the record now")
        self._reading += 1
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                reader = await TopicReader.open(self._topic)
                try:
                    between = reader.between(cursor.offset, cursor.from_us, cursor.to_us)
                    async with aclosing(between) as records:
                        async for placed in records:
                            yield placed
                finally:
                    await reader.close()
        except TimeoutError as error:
            raise UnavailableError("the record was not read in time; ask for less") from error
        finally:
            self._reading -= 1


async def _fill(
    records: AsyncGenerator[Placed], cursor: Cursor, kinds: frozenset[Kind], most: int
) -> Page:
    page: list[Placed] = []
    size_bytes = 0
    async for placed in records:
        if kinds and placed.record.kind not in kinds:
            continue
        size_bytes += len(encode(placed.record))
        if page and (len(page) >= most or size_bytes > PAGE_BYTES):
            return Page(page, Cursor(placed.offset, cursor.from_us, cursor.to_us))
        page.append(placed)
    return Page(page, None)


def changes(snapshots: Iterable[Placed]) -> list[Placed]:
    """Return those that have another level than the one before, the newest first."""
    kept: list[Placed] = []
    before: int | None = None
    for placed in snapshots:
        if before is not None and placed.record.level != before:
            kept.append(placed)
        before = placed.record.level
    return kept[::-1]
