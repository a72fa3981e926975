"""Kafka's records to a chunk of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from aiokafka import ConsumerRecord
from aiokafka import TopicPartition as KafkaPartition
from prometheus_client import Counter

from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.ledger import Dead
from libs.wire.schema import TRADE_SCHEMA
from libs.wire.trades import TradeDecoder
from services.query.completeness.undecoded import NONE, Undecoded, with_more
from services.query.tail.chunk import Chunk, chunk_of

REJECTED = Counter("k2_query_rejected_records", "Records the tail cannot decode", ["reason"])
PARTITION_AT = TRADE_SCHEMA.get_field_index("kafka_partition")
OFFSET_AT = TRADE_SCHEMA.get_field_index("kafka_offset")

# Not libs.kafka.runs: a fresh batch has a handful of records, and cutting it in columns costs
# 160 us against 30. Columns win from some 100 records a batch on.
Records = Mapping[KafkaPartition, Sequence[ConsumerRecord]]


class Decoding(NamedTuple):
    """Rows, and what is none."""

    chunk: Chunk | None = None
    undecoded: Undecoded = NONE


def decoded(decoder: TradeDecoder, topic: str, records: Records) -> Decoding:
    """Decode records of one topic; those that cannot be are counted, and named."""
    flat = [record for found in records.values() for record in found]
    found = decoder.decode(
        [record.value for record in flat],
        topic=topic,
        partition=0,
        offsets=np.arange(len(flat)),
    )
    undecoded: dict[TopicPartition, list[Dead]] = {}
    for rejected in found.rejected:
        REJECTED.labels(rejected.reason).inc()
        record = flat[rejected.offset]
        dead = undecoded.setdefault(TopicPartition(topic, record.partition), [])
        dead.append(dead_of(record, rejected.reason))
    chunk = chunk_of(topic, placed(found.batch, flat)) if found.batch.num_rows else None
    return Decoding(chunk, with_more(NONE, undecoded))


def dead_of(record: ConsumerRecord, reason: str) -> Dead:
    symbol = (record.key or b"").decode(errors="replace")
    return Dead(record.offset, record.offset + 1, symbol, reason, record.timestamp * 1_000)


def placed(batch: pa.RecordBatch, records: Sequence[ConsumerRecord]) -> pa.RecordBatch:
    """Put each row's own partition and offset in: the rows were numbered for decoding."""
    rows = batch["kafka_offset"].to_numpy()
    partitions = np.fromiter((record.partition for record in records), np.int32, len(records))
    offsets = np.fromiter((record.offset for record in records), np.int64, len(records))
    arrays = list(batch.columns)
    arrays[PARTITION_AT] = pa.array(partitions[rows])
    arrays[OFFSET_AT] = pa.array(offsets[rows])
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
