"""Exchange to Kafka: takes trades from an exchange's WebSocket streams and puts them on the log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from libs.kafka.topics import TRADES_BINANCE
from libs.runtime.config import (
    Address,
    Bytes,
    CommaList,
    ServiceConfig,
    grpc_field,
    metrics_field,
)

ALL_SYMBOLS = "*"


class IngestorConfig(ServiceConfig):
    """The ingestor's own variables."""

    name: str = Field(
        "ingestor-1",
        validation_alias="K2_SERVICE_NAME",
        description="name of this process, one of its kind",
    )
    grpc_address: Address = grpc_field("INGESTOR", 7101)
    metrics_address: Address = metrics_field("INGESTOR", 7201)
    exchange_url: str = Field(
        "wss://stream.binance.com:9443",
        validation_alias="K2_INGESTOR_EXCHANGE_URL",
        pattern=r"^wss?://[^\s/?#]+/?$",
        description="the exchange's WebSocket, without a path",
    )
    rest_url: str = Field(
        "https://api.binance.com",
        validation_alias="K2_INGESTOR_REST_URL",
        pattern=r"^https?://[^\s/?#]+/?$",
        description="the exchange's REST API: quote currencies at the start, and missed trades",
    )
    symbols: CommaList = Field(
        (ALL_SYMBOLS,),
        validation_alias="K2_INGESTOR_SYMBOLS",
        description="symbols with commas between; * takes all that trade",
        min_length=1,
    )
    time_unit: Literal["MICROSECOND", "MILLISECOND"] = Field(
        "MICROSECOND",
        validation_alias="K2_INGESTOR_TIME_UNIT",
        description="the unit to ask the exchange for; what comes is told by its size",
    )
    topic: str = Field(
        TRADES_BINANCE,
        validation_alias="K2_INGESTOR_TOPIC",
        pattern=r"^[a-zA-Z0-9._-]{1,240}$",
        description="the topic trades go to; what is no trade goes to <topic>.dlq",
    )
    schema_registry: Path = Field(
        Path(".k2/data/schemas.json"),
        validation_alias="K2_SCHEMA_REGISTRY",
        description="the schema registry's file",
    )
    silence_s: float = Field(
        45,
        validation_alias="K2_INGESTOR_SILENCE_S",
        gt=0,
        description="a connection that brings nothing, no ping either, for so long is dead",
    )
    connection_life_s: float = Field(
        82_800,
        validation_alias="K2_INGESTOR_CONNECTION_LIFE_S",
        gt=0,
        description="a connection is replaced after this time; Binance cuts it after 24 h",
    )
    overlap_s: float = Field(
        2,
        validation_alias="K2_INGESTOR_OVERLAP_S",
        ge=0,
        description="how long the old connection is read beside the one that replaces it",
    )
    gather_s: float = Field(
        0.005,
        validation_alias="K2_INGESTOR_GATHER_S",
        ge=0,
        le=1,
        description="after a message, wait so long for more to send with it",
    )
    connect_timeout_s: float = Field(
        10,
        validation_alias="K2_INGESTOR_CONNECT_TIMEOUT_S",
        gt=0,
        description="give up connecting after this time, and try again later",
    )
    spool_dir: Path = Field(
        Path(".k2/data/ingestor-spool"),
        validation_alias="K2_INGESTOR_SPOOL_DIR",
        description="folder of this process alone: what Kafka does not take, and what it has",
    )
    spool_bytes: Bytes = Field(
        Bytes(2**30),
        validation_alias="K2_INGESTOR_SPOOL_BYTES",
        ge=2**20,
        description="most bytes that wait there; beyond it the exchange waits",
    )
    heal: bool = Field(
        True,
        validation_alias="K2_INGESTOR_HEAL",
        description="fetch missed trades from the exchange's REST API",
    )
    heal_weight: int = Field(
        3_000,
        validation_alias="K2_INGESTOR_HEAL_WEIGHT",
        ge=50,
        description="of the exchange's 6000 request weight a minute and address, most to use",
    )
    heal_after_s: float = Field(
        1,
        validation_alias="K2_INGESTOR_HEAL_AFTER_S",
        ge=0,
        description="a gap is left so long to close by itself",
    )
    quiet_after_s: float = Field(
        10,
        validation_alias="K2_INGESTOR_QUIET_AFTER_S",
        ge=0,
        description="a symbol that a new connection has not brought by then is looked up by REST",
    )
    api_key: SecretStr | None = Field(
        None,
        validation_alias="K2_INGESTOR_API_KEY",
        description="sent with requests for missed trades, where the exchange wants a key",
    )
    writer_address: Address | None = Field(
        None,
        validation_alias="K2_INGESTOR_WRITER_ADDRESS",
        description="a writer, told of ids the exchange never had; without it they stay gaps",
    )
