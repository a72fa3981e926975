"""The columns of a decoded trade."""

from __future__ import annotations

import pyarrow as pa

from libs.market.trade import DECIMALS, INTEGER_DIGITS

NUMBER = pa.decimal128(INTEGER_DIGITS + DECIMALS, DECIMALS)
NOTIONAL = pa.decimal128(38, DECIMALS)
TIMESTAMP = pa.timestamp("us", "UTC")
CODES = pa.dictionary(pa.int32(), pa.string())
TEXTS = pa.list_(pa.field("element", pa.string(), nullable=False))
VENDOR_DATA = pa.map_(pa.string(), pa.field("value", pa.string(), nullable=False))

TRADE_SCHEMA = pa.schema(
    [
        pa.field("exchange", pa.string(), nullable=False),
        pa.field("asset_class", pa.string(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("trade_id", pa.string(), nullable=False),
        pa.field("source_sequence", pa.int64()),
        pa.field("sequence_epoch", pa.int32(), nullable=False),
        pa.field("timestamp", TIMESTAMP, nullable=False),
        pa.field("ingest_timestamp", TIMESTAMP, nullable=False),
        pa.field("price", NUMBER, nullable=False),
        pa.field("quantity", NUMBER, nullable=False),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("trade_conditions", TEXTS, nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("vendor_data", VENDOR_DATA, nullable=False),
        pa.field("notional", NOTIONAL),
        pa.field("kafka_topic", pa.string(), nullable=False),
        pa.field("kafka_partition", pa.int32(), nullable=False),
        pa.field("kafka_offset", pa.int64(), nullable=False),
    ]
)

# Columns of few values, which a decoder may give as codes into them.
CODED_COLUMNS = frozenset(
    {"exchange", "asset_class", "symbol", "currency", "side", "origin", "kafka_topic"}
)


def with_codes(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the same columns where those of few values are codes."""
    return pa.schema(
        field.with_type(CODES) if field.name in CODED_COLUMNS else field for field in schema
    )
