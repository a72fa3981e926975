"""K2's query service: one table over Iceberg and the tail of the log."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from libs.degradation.policy import DEFAULT_POLICY
from libs.kafka.topics import TRADES_BINANCE
from libs.runtime.config import Address, Bytes, CommaList, ServiceConfig, grpc_field, metrics_field

KIB, MIB, GIB = 2**10, 2**20, 2**30


class QueryConfig(ServiceConfig):
    """What the query service reads from the environment."""

    name: str = Field(
        "query-1", validation_alias="K2_SERVICE_NAME", description="name of this process"
    )
    catalog_uri: str = Field(
        "sqlite:///.k2/data/catalog.db",
        validation_alias="K2_CATALOG_URI",
        description="Iceberg catalog",
    )
    warehouse: str = Field(
        ".k2/data/warehouse", validation_alias="K2_WAREHOUSE", description="where tables lie"
    )
    schema_registry: Path = Field(
        Path(".k2/data/schemas.json"),
        validation_alias="K2_SCHEMA_REGISTRY",
        description="file of registered schemas",
    )
    grpc_address: Address = grpc_field("QUERY", 7103)
    metrics_address: Address = metrics_field("QUERY", 7203)
    topics: CommaList = Field(
        (TRADES_BINANCE,), validation_alias="K2_QUERY_TOPICS", description="topics the tail reads"
    )
    tail_memory_bytes: Bytes = Field(
        Bytes(GIB),
        validation_alias="K2_QUERY_TAIL_MEMORY",
        ge=MIB,
        description="memory of the tail; beyond it the oldest rows go to local files",
    )
    tail_bytes: Bytes = Field(
        Bytes(8 * GIB),
        validation_alias="K2_QUERY_TAIL_BYTES",
        ge=MIB,
        description="tail in memory and files together; beyond it reading waits for a commit",
    )
    held_bytes: Bytes = Field(
        Bytes(8 * GIB),
        validation_alias="K2_QUERY_HELD_BYTES",
        ge=MIB,
        description="shed rows kept until they are stored; beyond it the oldest are lacking",
    )
    heavy_bytes: Bytes = Field(
        Bytes(64 * MIB),
        validation_alias="K2_QUERY_HEAVY_BYTES",
        ge=KIB,
        description="short of memory, queries that would read more are refused first",
    )
    priority_policy: str = Field(
        DEFAULT_POLICY,
        min_length=1,
        validation_alias="K2_PRIORITY_POLICY",
        description="which symbols are answered when memory is very short: a file, or a name",
    )
    spill_dir: Path = Field(
        Path(".k2/query-spill"),
        validation_alias="K2_QUERY_SPILL_DIR",
        description="local folder for what does not fit in memory",
    )
    engine_memory_bytes: Bytes = Field(
        Bytes(GIB),
        validation_alias="K2_QUERY_ENGINE_MEMORY",
        ge=64 * MIB,
        description="memory DuckDB may take",
    )
    engine_threads: int = Field(
        min(4, os.cpu_count() or 1),
        validation_alias="K2_QUERY_ENGINE_THREADS",
        ge=1,
        description="threads DuckDB may use",
    )
    point_workers: int = Field(
        2,
        validation_alias="K2_QUERY_POINT_WORKERS",
        ge=1,
        description="point queries (pages, bars of a day) at a time",
    )
    scan_workers: int = Field(
        1, validation_alias="K2_QUERY_SCAN_WORKERS", ge=1, description="scans at a time"
    )
    most_waiting: int = Field(
        64,
        validation_alias="K2_QUERY_MOST_WAITING",
        ge=0,
        description="queries that wait in each pool; further ones are refused",
    )
    timeout_s: float = Field(
        60,
        validation_alias="K2_QUERY_TIMEOUT_S",
        gt=0,
        description="seconds a query may take, waiting included; a caller's deadline may be nearer",
    )
    catalog_poll_s: float = Field(
        0.2,
        validation_alias="K2_QUERY_CATALOG_POLL_S",
        gt=0,
        description="seconds between looks at the catalog's pointer",
    )
    log_check_s: float = Field(
        10,
        validation_alias="K2_QUERY_LOG_CHECK_S",
        gt=0,
        description="seconds between looks whether the log is still the table's own",
    )
