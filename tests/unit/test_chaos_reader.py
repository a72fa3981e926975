"""Whoever reads a chaos run may leave."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.polling import PATIENCE_S
from tools.chaos.reader import Reader, ReaderLeftError
from tools.chaos.story import Event, Kind


async def test_a_reader_is_told_until_he_leaves() -> None:
    """Then of nothing more, and whoever waits for that is told so."""
    told: list[str] = []

    def tell(event: Event) -> None:
        told.append(event.text)
        if event.text == "second":
            raise BrokenPipeError

    reader = Reader(tell)
    left = asyncio.create_task(reader.left())
    for text in ("first", "second", "third"):
        reader.tell(Event(0.0, Kind.SEEN, text))
    with pytest.raises(ReaderLeftError):
        await asyncio.wait_for(left, PATIENCE_S)
    assert told == ["first", "second"]
