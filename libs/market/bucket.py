"""Where a symbol's records live: one Kafka partition and one Iceberg bucket, with one number."""

from __future__ import annotations

from functools import lru_cache

import mmh3

BUCKETS = 16


@lru_cache(maxsize=100_000)
def bucket_of(symbol: str) -> int:
    """Return Iceberg's bucket[16] of the symbol: an exchange's symbols are few, and come again."""
    return (mmh3.hash(symbol) & 0x7FFF_FFFF) % BUCKETS
