"""The dead letters of the topics that the writer reads, as one list: the newest of each first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from libs.kafka.dead_letter_log import DeadLetterLog, Wanted
from libs.kafka.dead_letters import DeadLetter
from libs.market.errors import NotFoundError
from libs.rpc.pages import decode_token


class Place(NamedTuple):
    """Where a letter stands; as a page token, the last one of the page before."""

    topic: str
    offset: int
    key: str


@dataclass(frozen=True, slots=True)
class Found:
    """Places in the list's order, and when the letters were replayed, by key."""

    places: list[Place]
    replayed_us: Mapping[str, int]

    def page(self, token: str, rows: int) -> tuple[list[Place], Place | None]:
        """Return the places of a page, and the last one where others follow.

        Raises:
            InvalidError: the token is not ours.
        """
        begin = first_after(self.places, decode_token(token, Place)) if token else 0
        page = self.places[begin : begin + rows]
        return page, page[-1] if begin + rows < len(self.places) else None


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
        return Found(places, replayed_us)

    async def letters(
        self, places: Sequence[Place]
    ) -> AsyncGenerator[tuple[str, DeadLetter], None]:
        """Yield the letters at these places by topic, the oldest first. Raises UnavailableError."""
        for topic in dict.fromkeys(place.topic for place in places):
            offsets = [place.offset for place in places if place.topic == topic]
            async with aclosing(self._log.letters(topic, offsets)) as letters:
                async for letter in letters:
                    yield topic, letter


def first_after(places: Sequence[Place], last: Place) -> int:
    """Return where the list goes on after a place, which may be gone by now."""
    topics = list(dict.fromkeys(place.topic for place in places))
    rank = topics.index(last.topic) if last.topic in topics else len(topics)

    def follows(place: Place) -> bool:
        at = topics.index(place.topic)
        return at > rank or (at == rank and place.offset < last.offset)

    return next((at for at, place in enumerate(places) if follows(place)), len(places))
