"""What becomes of a broker's log: bytes damaged and mended, records forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete


def segment_of(folders: pytest.TempPathFactory, topic: str, partition: int) -> Path:
    """Find the file of a partition that has but one."""
    (segment,) = folders.getbasetemp().glob(f"**/{topic}-{partition}/{'0' * 20}.log")
    return segment


def turned_over(path: Path, at: int) -> None:
    """Damage a byte of a file, or mend it again."""
    with path.open("r+b") as file:
        file.seek(at)
        (octet,) = file.read(1)
        file.seek(at)
        file.write(bytes([octet ^ 0xFF]))


async def forget_below(bootstrap: str, topic: str, partition: int, offset: int) -> None:
    """Have the log forget the positions below, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        place = TopicPartition(topic, partition)
        await admin.delete_records({place: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()
