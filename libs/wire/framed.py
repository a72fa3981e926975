"""Trades to Kafka values, without a Python object a row."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from k2.market.v1 import market_pb2

from libs.wire.framing import header
from libs.wire.reader import handler_of

_ENCODER = handler_of(market_pb2.Trade.DESCRIPTOR)
_NOTHING = pa.scalar(b"", pa.binary())


def framed_trades(batch: pa.RecordBatch, schema_id: int) -> pa.BinaryArray:
    """Encode PROTO_TRADE_SCHEMA rows as framed Kafka values, keeping their order."""
    payloads = _ENCODER.record_batch_to_array(batch)
    prefix = pa.scalar(header(schema_id), pa.binary())
    return pc.binary_join_element_wise(prefix, payloads, _NOTHING)
