"""The writer: takes trades from Kafka and commits them to the Iceberg table, each exactly once."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from libs.degradation.policy import DEFAULT_POLICY
from libs.kafka.topics import TRADES_BINANCE
from libs.runtime.config import Address, Bytes, CommaList, grpc_field, metrics_field
from services.writer.backfill.config import BackfillConfig
from services.writer.maintenance.config import MaintenanceConfig

MIB = 1024 * 1024


class WriterConfig(MaintenanceConfig, BackfillConfig):
    """What the writer reads from K2_* variables."""

    name: str = Field(
        "writer-1",
        validation_alias="K2_SERVICE_NAME",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="name of this process, one of its kind (writer-1)",
    )
    grpc_address: Address = grpc_field("WRITER", 7102)
    metrics_address: Address = metrics_field("WRITER", 7202)
    catalog_uri: str = Field(
        "sqlite:///.k2/data/catalog.db",
        validation_alias="K2_CATALOG_URI",
        description="the Iceberg catalog",
    )
    warehouse: str = Field(
        ".k2/data/warehouse",
        validation_alias="K2_WAREHOUSE",
        description="folder or URI for data files",
    )
    schema_registry: Path = Field(
        Path(".k2/data/schemas.json"),
        validation_alias="K2_SCHEMA_REGISTRY",
        description="file that holds the schemas by id",
    )
    topics: CommaList = Field(
        (TRADES_BINANCE,),
        min_length=1,
        validation_alias="K2_WRITER_TOPICS",
        description="topics to write, separated by commas",
    )
    group: str = Field(
        "k2-writer",
        min_length=1,
        validation_alias="K2_WRITER_GROUP",
        description="Kafka consumer group; writers of one group share the partitions",
    )
    priority_policy: str = Field(
        DEFAULT_POLICY,
        min_length=1,
        validation_alias="K2_PRIORITY_POLICY",
        description="which symbols wait when lag is high: a file, or crypto or equities",
    )
    flush_after_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        validation_alias="K2_WRITER_FLUSH_AFTER_S",
        description="commit after so many seconds",
    )
    flush_after_bytes: Bytes = Field(
        Bytes(40 * MIB),
        ge=MIB // 16,
        validation_alias="K2_WRITER_FLUSH_AFTER_BYTES",
        description="commit after so much, decoded, in memory (40MiB)",
    )
    fetch_bytes: Bytes = Field(
        Bytes(MIB),
        ge=MIB // 16,
        validation_alias="K2_WRITER_FETCH_BYTES",
        description="most to fetch of one partition at a time, as Kafka has it",
    )
    session_timeout_ms: int = Field(
        30_000,
        ge=500,
        validation_alias="K2_WRITER_SESSION_TIMEOUT_MS",
        description="after so long a silence the group gives a writer's partitions to others",
    )
    group_instance: str = Field(
        "",
        validation_alias="K2_WRITER_GROUP_INSTANCE",
        pattern=r"^[A-Za-z0-9._-]{0,249}$",
        description="a name that this writer alone has, and its successor after a restart: it then"
        " takes over the partitions at once, where the group else waits for the session timeout",
    )
    heartbeat_ms: int = Field(
        3_000,
        ge=50,
        validation_alias="K2_WRITER_HEARTBEAT_MS",
        description="how often a writer shows the group that it lives",
    )

    burst_records: int = Field(
        100,
        ge=1,
        validation_alias="K2_WRITER_BURST_RECORDS",
        description="so many unreadable records in a row hold their partition",
    )
    probe_every_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        validation_alias="K2_WRITER_PROBE_EVERY_S",
        description="how often a held partition's next batch is tried again",
    )

    restart_jitter_s: float = Field(
        15.0,
        ge=0,
        le=30,
        validation_alias="K2_WRITER_RESTART_JITTER_S",
        description="longest wait before a restart for memory, where no governor gives turns",
    )

    @model_validator(mode="after")
    def _heartbeats_fit_the_session(self) -> WriterConfig:
        if self.heartbeat_ms * 3 > self.session_timeout_ms:
            raise ValueError(
                "K2_WRITER_HEARTBEAT_MS must be at most a third of K2_WRITER_SESSION_TIMEOUT_MS"
            )
        return self
