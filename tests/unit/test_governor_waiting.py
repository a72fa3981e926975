"""A governor that cannot begin says why, and gives a slow Kafka more time with each try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace

import pytest

from libs.degradation.level import Rules
from libs.market.clock import SystemClock
from libs.market.errors import UnavailableError
from services.governor.board import Board
from services.governor.deciding.explain import explain
from services.governor.deciding.govern import Standing, govern
from services.governor.leading import leadership as leading
from services.governor.leading import recorder as recording
from services.governor.leading.following import standing_by
from services.governor.leading.leadership import Leadership
from services.governor.leading.recorder import Recorder
from services.governor.observing import offsets
from services.governor.observing.fleet import Fleet
from services.governor.observing.lag import GroupLag
from services.governor.observing.offsets import KafkaOffsets
from services.governor.observing.sampler import LagSampler, Sample
from services.governor.published import Published
from services.governor.record.topic import Topic, TopicReader
from tests.support.polling import eventually

SLOW = "Kafka did not tell the offsets of k2-writer within 2 s"


class Slow:
    """Kafka's offsets, which do not come; the test sees how long each connection was waited for."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    async def start_consumer(self, *_: object, timeout_s: float) -> None:
        self.waits_s.append(timeout_s)
        raise UnavailableError("no Kafka answers")


async def test_a_slow_kafka_is_given_longer_with_each_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that takes a little longer than the first wait is left and found anew for ever."""
    slow = Slow()
    monkeypatch.setattr(offsets, "start_consumer", slow.start_consumer)
    source = KafkaOffsets("nowhere:1", ["k2-writer"], ["t"])
    for _ in range(4):
        with pytest.raises(UnavailableError):
            await source.read()
    assert slow.waits_s == [5.0, 10.0, 20.0, 20.0]


class Unreadable:
    async def read(self) -> offsets.Offsets:
        raise UnavailableError(SLOW)

    async def close(self) -> None: ...


async def test_a_governor_without_lag_says_what_it_waits_for() -> None:
    """In its state, which is all that anyone looks at first."""
    samples: list[Mapping[str, GroupLag]] = []

    async def tell(sample: Sample) -> None:
        samples.append(sample)

    sampler = LagSampler(
        Unreadable(), ["k2-writer"], Published(Fleet()), tell, every_s=0.01, fresh_s=1.0
    )
    running = asyncio.create_task(sampler.run())
    await eventually(lambda: bool(samples))
    await sampler.stop()
    await running
    state = govern(Standing(Rules(), 10.0, epoch=1), samples[0], Fleet(), 0.0, 0)
    said = explain(state, Fleet(), 1.0)
    assert said.startswith("No level yet")
    assert SLOW in said
    known = govern(state, {"k2-writer": GroupLag("k2-writer", known=True)}, Fleet(), 1.0, 0)
    blind = govern(known, samples[0], Fleet(), 2.0, 0)
    assert f"cannot be read now ({SLOW}): its level holds" in explain(blind, Fleet(), 2.0)


@pytest.fixture
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Board, list[Topic]]]:
    """Run a recorder whose topic never opens."""
    tries: list[Topic] = []

    async def refuse(topic: Topic) -> None:
        tries.append(topic)
        raise UnavailableError("Kafka at nowhere:1 did not do as asked within 5 s")

    monkeypatch.setattr(TopicReader, "open", refuse)
    monkeypatch.setattr(recording, "BACKOFF", replace(recording.BACKOFF, first_s=0.001))
    board = Board.blank(Standing(Rules(), 10.0, epoch=0), Leadership("governor-1", 4.0))
    recorder = Recorder(board, Topic("nowhere:1"), 10.0, SystemClock())
    running = asyncio.create_task(recorder.run())
    yield board, tries
    await recorder.stop()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_governor_that_cannot_claim_says_why_and_waits_longer(
    opened: tuple[Board, list[Topic]],
) -> None:
    """Nobody should have to guess from its silence."""
    board, tries = opened
    await eventually(lambda: len(tries) >= 4)
    assert [topic.slack for topic in tries[:4]] == [1.0, 2.0, 4.0, 4.0]
    await eventually(lambda: bool(board.leadership.value.hindered))
    assert "did not do as asked within 5 s" in standing_by(board.leadership.value)


def test_what_hindered_a_governor_is_forgotten_when_it_leads() -> None:
    """And not before: to follow for a moment mends nothing."""
    state = leading.deaf(Leadership("governor-1", 4.0), "Kafka is away")
    state = leading.caught_up(leading.deaf(state), 10.0)
    assert "nobody leads yet (Kafka is away)" in standing_by(state)
    assert not leading.claimed(state, 5, "host-1:7104").hindered
