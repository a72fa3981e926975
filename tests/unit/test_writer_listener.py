"""The rebalance listener: partitions stand still before anything else is done about them."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.market.errors import UnavailableError
from libs.runtime.backoff import Backoff
from services.writer.config import WriterConfig
from services.writer.intake import membership as module
from services.writer.intake.membership import Membership, NameTakenError, has_namesake
from services.writer.intake.positions import Positions
from services.writer.intake.rebalance import Rebalance

TP = TopicPartition("trades", 3)


class FakeKafka:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.journal: list[str] = []
        self._coordinator = self
        self.member_id = ""

    def pause(self, *partitions: TopicPartition) -> None:
        self.journal += [f"pause {tp.partition}" for tp in partitions]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.journal.append(f"seek {partition.partition} {offset}")


async def test_partitions_are_paused_before_anything_else() -> None:
    """The client fetches meanwhile, from the offset that Kafka has committed."""
    kafka, positions = FakeKafka(), Positions()

    async def revoked() -> None:
        kafka.journal.append("hand over")

    listener = Rebalance(positions, lambda: kafka.journal.append("place"), revoked)
    listener.attach(cast("AIOKafkaConsumer", kafka))
    await listener.on_partitions_assigned([TP])
    assert kafka.journal == ["pause 3", "seek 3 0", "place"]
    assert positions.unplaced == {("trades", 3)}
    kafka.journal.clear()
    await listener.on_partitions_revoked([TP])
    assert kafka.journal == ["pause 3", "seek 3 0", "hand over"]
    assert not positions.assigned


async def test_a_member_that_its_group_does_not_know_any_more_is_told_so() -> None:
    """After its partitions were handed over; a rebalance that keeps it tells nothing."""
    kafka, positions = FakeKafka(), Positions()

    async def revoked() -> None:
        kafka.journal.append("hand over")

    async def expelled(member_id: str) -> None:
        kafka.journal.append(f"{member_id} expelled")

    listener = Rebalance(positions, lambda: None, revoked)
    listener.attach(cast("AIOKafkaConsumer", kafka))
    listener.when_expelled(expelled)
    await listener.on_partitions_revoked([])
    kafka.member_id = "writer-1"
    await listener.on_partitions_assigned([TP])
    await listener.on_partitions_revoked([TP])
    await listener.on_partitions_assigned([TP])
    kafka.journal.clear()
    kafka.member_id = ""
    await listener.on_partitions_revoked([TP])
    assert kafka.journal == ["pause 3", "seek 3 0", "hand over", "writer-1 expelled"]


async def test_who_has_a_name_is_asked_until_kafka_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining meanwhile would take the name back; a namesake then ends the joining."""
    answers: list[tuple[str, ...] | None] = [None, None, (f"writer-1-{UUID}",)]

    async def members_of(*_: object, **__: object) -> tuple[str, ...]:
        answer = answers.pop(0)
        if answer is None:
            raise UnavailableError("the coordinator is loading")
        return answer

    monkeypatch.setattr(module, "members_of", members_of)
    monkeypatch.setattr(module, "BACKOFF", Backoff(first_s=0.001, most_s=0.001))
    membership = Membership(WriterConfig(group_instance="writer-1"))
    with pytest.raises(asyncio.CancelledError):
        await membership._expelled(f"writer-1-{UUID[::-1]}")
    assert not answers
    with pytest.raises(NameTakenError, match="writer-1"):
        membership.ready()


UUID = "0f5b1a6e-58a5-4c3a-9b53-0f8a7d2c1b11"


@pytest.mark.parametrize(
    ("member_id", "is_other"),
    [
        (f"writer-1-{UUID}", True),
        (f"writer-1-{UUID[::-1]}", False),
        (f"writer-11-{UUID}", False),
        (f"my-writer-1-{UUID}", False),
        (f"writer:writer-1-{UUID}", False),
        (f"writer-1-{UUID}-{UUID}", False),
        ("writer-1", False),
    ],
)
def test_a_namesake_is_another_member_of_the_same_name(member_id: str, is_other: bool) -> None:
    """Neither this one as the group knew it, nor one whose name only begins or ends alike."""
    assert has_namesake([member_id], "writer-1", f"writer-1-{UUID[::-1]}") is is_other
