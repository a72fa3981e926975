from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from libs.kafka.partitioner import partition_of_key
from libs.kafka.topics import PARTITIONS
from libs.market.bucket import bucket_of

iceberg_bucket = BucketTransform[str](PARTITIONS).transform(StringType())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_partition_is_icebergs_bucket(symbol: str) -> None:
    """A symbol's Kafka partition is its Iceberg bucket, whatever characters it has."""
    assert bucket_of(symbol) == iceberg_bucket(symbol)
    partitions = list(range(PARTITIONS))
    assert partition_of_key(symbol.encode(), partitions, partitions) == bucket_of(symbol)


@given(st.binary() | st.none(), st.integers(1, 40))
def test_any_key_has_a_partition(key: bytes | None, partitions: int) -> None:
    """No key, and a topic of another size, still gives one of its partitions."""
    every = list(range(partitions))
    assert partition_of_key(key, every, every) in every
