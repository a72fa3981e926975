"""The table of trades: its columns, how it is partitioned and sorted, and its properties."""

from __future__ import annotations

from typing import Protocol

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from pyiceberg.types import (
    DecimalType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
)

from libs.lake.table.naming import OwnColumns, own_columns
from libs.market.bucket import BUCKETS
from libs.market.bucket import bucket_of as bucket_of
from libs.market.errors import ConfigError, NotFoundError
from libs.market.trade import DECIMALS, INTEGER_DIGITS

TRADES = "market.trades"

NUMBER = DecimalType(INTEGER_DIGITS + DECIMALS, DECIMALS)
NOTIONAL = DecimalType(38, DECIMALS)
CONDITIONS = ListType(element_id=20, element_type=StringType(), element_required=True)
VENDOR_DATA = MapType(
    key_id=21,
    key_type=StringType(),
    value_id=22,
    value_type=StringType(),
    value_required=True,
)

TRADES_SCHEMA = Schema(
    NestedField(1, "exchange", StringType(), required=True),
    NestedField(2, "asset_class", StringType(), required=True),
    NestedField(3, "symbol", StringType(), required=True),
    NestedField(4, "trade_id", StringType(), required=True),
    NestedField(5, "source_sequence", LongType()),
    NestedField(6, "sequence_epoch", IntegerType(), required=True),
    NestedField(7, "timestamp", TimestamptzType(), required=True),
    NestedField(8, "ingest_timestamp", TimestamptzType(), required=True),
    NestedField(9, "price", NUMBER, required=True),
    NestedField(10, "quantity", NUMBER, required=True),
    NestedField(11, "currency", StringType(), required=True),
    NestedField(12, "side", StringType(), required=True),
    NestedField(13, "trade_conditions", CONDITIONS, required=True),
    NestedField(14, "origin", StringType(), required=True),
    NestedField(15, "vendor_data", VENDOR_DATA, required=True),
    NestedField(16, "notional", NOTIONAL),
    NestedField(17, "kafka_topic", StringType(), required=True),
    NestedField(18, "kafka_partition", IntegerType(), required=True),
    NestedField(19, "kafka_offset", LongType(), required=True),
)

TRADES_SPEC = PartitionSpec(
    PartitionField(source_id=7, field_id=1000, transform=DayTransform(), name="timestamp_day"),
    PartitionField(
        source_id=3, field_id=1001, transform=BucketTransform(BUCKETS), name="symbol_bucket"
    ),
)

TRADES_ORDER = SortOrder(
    SortField(source_id=3, transform=IdentityTransform()),
    SortField(source_id=7, transform=IdentityTransform()),
    SortField(source_id=19, transform=IdentityTransform()),
)

TRADES_PROPERTIES = {
    "format-version": "2",
    # Bounds cut at 16 characters would not tell one topic from another.
    "write.metadata.metrics.column.symbol": "full",
    "write.metadata.metrics.column.kafka_topic": "full",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "1",
    # Each commit rewrites the metadata file; a long log of them only makes it larger.
    "write.metadata.previous-versions-max": "20",
}


class TableCatalog(Protocol):
    """What it takes to find or make a table."""

    def load_table(self, identifier: str) -> Table: ...

    def create_table(
        self,
        identifier: str,
        schema: Schema,
        spec: PartitionSpec,
        order: SortOrder,
        properties: dict[str, str],
    ) -> Table: ...


def ensure_trades(catalog: TableCatalog) -> Table:
    """Return the table of trades, creating it where there is none.

    Raises:
        ConfigError: there is a table of that name with other columns or partitions.
    """
    try:
        table = catalog.load_table(TRADES)
    except NotFoundError:
        table = catalog.create_table(
            TRADES, TRADES_SCHEMA, TRADES_SPEC, TRADES_ORDER, TRADES_PROPERTIES
        )
    refuse_other_shape(table)
    return table


def refuse_other_shape(table: Table) -> Schema:
    """Return K2's columns; raise ConfigError where one is missing or of another type.

    Field ids and the names others gave may differ, and columns of others may be there: all is read
    back from the catalog.
    """
    own = trades_columns(table.metadata).schema
    theirs = {field.name: str(field.field_type) for field in own.fields}
    for field in TRADES_SCHEMA.fields:
        if theirs.get(field.name) != str(field.field_type):
            raise ConfigError(
                f"table {TRADES} is not K2's: column {field.name} is"
                f" {theirs.get(field.name, 'missing')}, expected {field.field_type}"
            )
    if partition_shape(own, table.spec()) != partition_shape(TRADES_SCHEMA, TRADES_SPEC):
        raise ConfigError(f"table {TRADES} is not K2's: it is partitioned by {table.spec()}")
    return own


def trades_columns(metadata: TableMetadata) -> OwnColumns:
    """Return K2's columns of the table of trades, by K2's names."""
    return own_columns(metadata, (field.name for field in TRADES_SCHEMA.fields))


def partition_shape(schema: Schema, spec: PartitionSpec) -> list[tuple[str | None, str]]:
    return [
        (schema.find_column_name(field.source_id), str(field.transform)) for field in spec.fields
    ]
