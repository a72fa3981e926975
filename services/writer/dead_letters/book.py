"""The dead letters of the topics that the writer reads, as one list: the newest of each first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from libs.kafka.dead_letter_log import DeadLetterLog, Wanted
from libs.kafka.dead_letters import DeadLetter
from libs.market.errors import InvalidError, NotFoundError
from libs.rpc.pages import decode_token


class Place(NamedTuple):
    """Where a letter stands; as a page token, the last one of the page before."""

    topic: str
    offset: int
    key: str


@dataclass(frozen=True, slots=True)
class Found:
    """Places in the order of the topics, and when the letters were replayed, by key."""

    topics: tuple[str, ...]
    places: list[Place]
    replayed_us: Mapping[str, int]

    def page(self, token: str, rows: int) -> tuple[list[Place], Place | None]:
        """Return the places of a page, and the last one where others follow.

        Raises:
            InvalidError: the token is not ours.
        """
        begin = self._after(decode_token(token, Place)) if token else 0
        page = self.places[begin : begin + rows]
        return page, page[-1] if begin + rows < len(self.places) else None

    def _after(self, last: Place) -> int:
        """Return where the list goes on after a place, which may be gone by now."""
        if last.topic not in self.topics:
            text = f"page_token is of another question: it goes on in {last.topic}"
            raise InvalidError(text, field="page_token")
        passed = (self.topics.index(last.topic), -last.offset)
        at = ((self.topics.index(place.topic), -place.offset) for place in self.places)
        return next((n for n, place in enumerate(at) if place > passed), len(self.places))


class DeadLetterBook:
    """Looks into Kafka with each question, and keeps nothing."""

    def __init__(self, topics: Sequence[str], log: DeadLetterLog) -> None:
        self._topics = tuple(topics)
        self._log = log

    def topics(self, asked: str) -> tuple[str, ...]:
        """Return the topics that a question is about.

        Raises:
            NotFoundError: it names one that this writer does not read.
        """
        if asked and asked not in self._topics:
            text = f"this writer does not read topic {asked!r}, but {', '.join(self._topics)}"
            raise NotFoundError(text, topic=asked)
        return (asked,) if asked else self._topics

    async def find(self, topic: str, wanted: Wanted) -> Found:
        """Look through all letters. Raises UnavailableError, NotFoundError."""
        places: list[Place] = []
        replayed_us: dict[str, int] = {}
        for name in self.topics(topic):
            index = await self._log.index(name, wanted)
            keys = {at: key for key, at in index.places.items()}
            places += [Place(name, at, keys[at]) for at in reversed(index.offsets(wanted))]
            replayed_us |= index.replayed_us
        return Found(self.topics(topic), places, replayed_us)

    async def letters(
        self, places: Sequence[Place]
    ) -> AsyncGenerator[tuple[str, DeadLetter], None]:
        """Yield the letters at these places by topic, the oldest first. Raises UnavailableError."""
        for topic in dict.fromkeys(place.topic for place in places):
            offsets = [place.offset for place in places if place.topic == topic]
            async with aclosing(self._log.letters(topic, offsets)) as letters:
                async for letter in letters:
                    yield topic, letter
