"""Record batches that are none: they are named, and what stands before them is delivered.

By itself aiokafka says of which partition a batch is in a text alone, and delivers nothing of what
it read before it. `parsed_by` changes one consumer, through its fetcher's inner parts: hence
aiokafka's version is held below the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.errors import KafkaError

from libs.kafka.record_batches import UNREADABLE
from libs.market.errors import CorruptError


class UnreadableBatchError(CorruptError):
    """A record batch cannot be read as the broker gave it: a broken disk, broker or wire.

    Where getmany raises it, it has forgotten what it had of any partition, and stands behind it:
    all are to be sought again.
    """

    reason = "UNREADABLE_BATCH"

    def __init__(self, tp: TopicPartition, offset: int, why: Exception) -> None:
        where = f"offset {offset} of {tp.topic}, partition {tp.partition}"
        told = f"the record batch at {where} cannot be read ({type(why).__name__}: {why})"
        super().__init__(f"{told}: look at this broker's disk", topic=tp.topic, offset=offset)
        self.position = tp
        self.offset = offset


class NamedRecords(PartitionRecords):  # type: ignore[misc]
    """Yields records up to a batch that cannot be read; it is told once it is the next to read."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        """Raises: UnreadableBatchError."""
        start = self.next_fetch_offset
        try:
            yield from self._parsed()
        except (KafkaError, *UNREADABLE) as error:
            if self.next_fetch_offset == start:
                raise UnreadableBatchError(self._tp, start, error) from error

    def _parsed(self) -> Iterator[Any]:
        """Yield what can be read, then raise what the next batch raises, if anything."""
        return super()._unpack_records()  # type: ignore[no-any-return]


def name_unreadable(consumer: AIOKafkaConsumer) -> None:
    """Have a started consumer's getmany raise UnreadableBatchError, and deliver what is before."""
    parsed_by(consumer, PartitionRecords=NamedRecords)


def parsed_by(consumer: AIOKafkaConsumer, **parts: type) -> None:
    """Have a started consumer take what it fetches apart with other classes of these names."""
    fetcher = consumer._fetcher  # noqa: SLF001 (see above)
    receive: FunctionType = Fetcher._proc_fetch_request  # noqa: SLF001
    known = receive.__globals__ | parts
    fetcher._proc_fetch_request = MethodType(  # noqa: SLF001
        FunctionType(receive.__code__, known, receive.__name__), fetcher
    )
