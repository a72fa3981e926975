"""Rows back to Kafka values, where the bytes they came in are gone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from libs.market.trade import AssetClass, Origin, Side, Trade
from libs.wire.added import added_fields
from libs.wire.reader import with_values
from libs.wire.registry import SchemaRegistry, subject_of
from libs.wire.trades import encode_trade, register_trades

# One by one: what conflicts is rare, and read by people.


class Reencoder:
    """Encodes rows under the newest schema of the topic they came from, what it added too."""

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry

    def __call__(self, rows: pa.Table) -> list[bytes]:
        """Return a framed value for each row; zeros at the end of a number are not kept.

        Raises:
            CorruptError: the schema registry is damaged.
        """
        return [self._encode(row) for row in rows.to_pylist()]

    def _encode(self, row: Mapping[str, Any]) -> bytes:
        schema_id = self._schema_id(row["kafka_topic"])
        value, schema = encode_trade(trade_of(row), schema_id), self._registry.get(schema_id)
        added = added_fields(self._registry.before(schema_id), schema)
        return with_values(value, schema, {field: row.get(field.name) for field in added})

    def _schema_id(self, topic: str) -> int:
        latest = self._registry.latest(subject_of(topic))
        return register_trades(self._registry, topic) if latest is None else latest


def trade_of(row: Mapping[str, Any]) -> Trade:
    return Trade(
        exchange=row["exchange"],
        asset_class=AssetClass(row["asset_class"]),
        symbol=row["symbol"],
        trade_id=row["trade_id"],
        timestamp_us=time_us(row["timestamp"]),
        ingest_timestamp_us=time_us(row["ingest_timestamp"]),
        price=shortest(row["price"]),
        quantity=shortest(row["quantity"]),
        currency=row["currency"],
        side=Side(row["side"]),
        source_sequence=row["source_sequence"],
        sequence_epoch=row["sequence_epoch"],
        trade_conditions=tuple(row["trade_conditions"]),
        origin=Origin(row["origin"]),
        vendor_data=dict(row["vendor_data"]),
    )


def time_us(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000 + time.microsecond


def shortest(number: Decimal) -> Decimal:
    return Decimal(f"{number.normalize():f}")
