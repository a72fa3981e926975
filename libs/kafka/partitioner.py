"""Which partition a record goes to: a symbol's bucket, so that a partition fills one bucket."""

from __future__ import annotations

from collections.abc import Sequence

import mmh3

from libs.kafka.topics import PARTITIONS
from libs.market.bucket import bucket_of


def partition_of_key(key: bytes | None, partitions: Sequence[int], _: Sequence[int]) -> int:
    """Partition as aiokafka asks for it; a topic that is not one of ours may have fewer."""
    if key is None or len(partitions) != PARTITIONS:
        return partitions[mmh3.hash(key or b"", signed=False) % len(partitions)]
    return bucket_of(key.decode(errors="replace"))
