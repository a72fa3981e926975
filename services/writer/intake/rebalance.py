"""What happens when the group hands partitions out anew.

aiokafka runs these callbacks while it already fetches and swallows what they raise, so they only
pause; the consumer resumes a partition once the table has said where to read on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from services.writer.intake.positions import Positions


class Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]
    """Pauses first; positions are the table's to give."""

    def __init__(
        self,
        positions: Positions,
        on_assigned: Callable[[], None],
        on_revoked: Callable[[], Awaitable[None]],
    ) -> None:
        self._positions = positions
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._kafka: AIOKafkaConsumer | None = None
        self._expelled: Callable[[str], Awaitable[None]] | None = None
        self._member_id = ""

    def attach(self, kafka: AIOKafkaConsumer) -> None:
        self._kafka = kafka

    def when_expelled(self, expelled: Callable[[str], Awaitable[None]]) -> None:
        """Have this called with its last id of a member that the group does not know any more.

        Only then, and after all else: what it raises ends the joining.
        """
        self._expelled = expelled

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._pause(revoked)
        if revoked:
            await self._on_revoked()
        self._positions.revoke()
        if self._expelled is not None and self._member_id and not self._id_now:
            await self._expelled(self._member_id)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._pause(assigned)
        self._positions.assign((tp.topic, tp.partition) for tp in assigned)
        self._on_assigned()
        if self._expelled is not None:
            self._member_id = self._id_now

    @property
    def _id_now(self) -> str:
        """The id the group gave; aiokafka forgets it once the group does not know it."""
        return "" if self._kafka is None else str(self._kafka._coordinator.member_id)  # noqa: SLF001

    def _pause(self, partitions: Collection[TopicPartition]) -> None:
        if self._kafka is None:
            return
        self._kafka.pause(*partitions)
        for partition in partitions:
            # A position of any kind keeps aiokafka from looking up the one Kafka has committed.
            self._kafka.seek(partition, 0)
