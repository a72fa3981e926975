"""The rebalance listener: partitions stand still before anything else is done about them."""

from __future__ import annotations

from typing import cast

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.writer.intake.positions import Positions
from services.writer.intake.rebalance import Rebalance

TP = TopicPartition("trades", 3)


class FakeKafka:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.journal: list[str] = []

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
