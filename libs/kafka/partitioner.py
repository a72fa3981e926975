"""Which partition a symbol's records go to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import mmh3

from libs.kafka.topics import PARTITIONS


@lru_cache(maxsize=100_000)
def bucket(symbol: str) -> int:
    """Return Iceberg's bucket[16] of the symbol, so that a partition fills one bucket."""
    return (mmh3.hash(symbol) & 0x7FFF_FFFF) % PARTITIONS


def partition_of_key(key: bytes | None, partitions: Sequence[int], _: Sequence[int]) -> int:
    """Partition as aiokafka asks for it; a topic that is not one of ours may have fewer."""
    if key is None or len(partitions) != PARTITIONS:
        return partitions[mmh3.hash(key or b"", signed=False) % len(partitions)]
    return bucket(key.decode(errors="replace"))
