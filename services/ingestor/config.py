"""Exchange to Kafka: takes trades from an exchange's WebSocket streams and puts them on the log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from libs.kafka.topics import TRADES_BINANCE
from libs.runtime.config import Address, CommaList, ServiceConfig, grpc_field, metrics_field

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
        "https://data-api.binance.vision",
        validation_alias="K2_INGESTOR_REST_URL",
        pattern=r"^https?://[^\s/?#]+/?$",
        description="the exchange's REST API, asked once for quote currencies",
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
