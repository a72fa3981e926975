"""Kafka's records to a chunk of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from aiokafka import ConsumerRecord, TopicPartition
from prometheus_client import Counter

from libs.wire.schema import TRADE_SCHEMA
from libs.wire.trades import TradeDecoder
from services.query.chunk import Chunk, chunk_of

REJECTED = Counter("k2_query_rejected_total", "Records the tail cannot decode", ["reason"])
PARTITION_AT = TRADE_SCHEMA.get_field_index("kafka_partition")
OFFSET_AT = TRADE_SCHEMA.get_field_index("kafka_offset")

# Not libs.kafka.runs: a fresh batch has a handful of records, and cutting it in columns costs
# 160 us against 30. Columns win from some 100 records a batch on.
Records = Mapping[TopicPartition, Sequence[ConsumerRecord]]


def decoded(decoder: TradeDecoder, topic: str, records: Records) -> Chunk | None:
    """Decode records of one topic; those that cannot be are counted, and passed by."""
    flat = [record for found in records.values() for record in found]
    found = decoder.decode(
        [record.value for record in flat],
        topic=topic,
        partition=0,
        offsets=np.arange(len(flat)),
    )
    for rejected in found.rejected:
        REJECTED.labels(rejected.reason).inc()
    if not found.batch.num_rows:
        return None
    return chunk_of(topic, placed(found.batch, flat))


def placed(batch: pa.RecordBatch, records: Sequence[ConsumerRecord]) -> pa.RecordBatch:
    """Put each row's own partition and offset in: the rows were numbered for decoding."""
    rows = batch["kafka_offset"].to_numpy()
    partitions = np.fromiter((record.partition for record in records), np.int32, len(records))
    offsets = np.fromiter((record.offset for record in records), np.int64, len(records))
    arrays = list(batch.columns)
    arrays[PARTITION_AT] = pa.array(partitions[rows])
    arrays[OFFSET_AT] = pa.array(offsets[rows])
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
