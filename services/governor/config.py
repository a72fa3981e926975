"""The governor's configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from libs.degradation.level import LAG_THRESHOLDS, MEMORY_THRESHOLDS, Rules, Thresholds
from libs.kafka.topics import TRADES_BINANCE
from libs.market.errors import ConfigError
from libs.runtime.config import Address, CommaList, ServiceConfig, grpc_field, metrics_field


def _thresholds(value: object) -> object:
    try:
        return Thresholds.parse(value) if isinstance(value, str) else value
    except ConfigError as error:
        raise ValueError(error.message) from error


FourThresholds = Annotated[Thresholds, BeforeValidator(_thresholds)]


class GovernorConfig(ServiceConfig):
    """What `python -m services.governor` reads."""

    name: str = Field(
        "governor-1",
        validation_alias="K2_SERVICE_NAME",
        description="name of this process, one of its kind (governor-1)",
    )
    grpc_address: Address = grpc_field("GOVERNOR", 7104)
    metrics_address: Address = metrics_field("GOVERNOR", 7204)
    groups: CommaList = Field(
        ("k2-writer",),
        validation_alias="K2_GOVERNOR_GROUPS",
        description="consumer groups whose lag counts",
    )
    topics: CommaList = Field(
        (TRADES_BINANCE,),
        validation_alias="K2_GOVERNOR_TOPICS",
        description="topics that each of these groups reads",
    )
    lag_thresholds: FourThresholds = Field(
        LAG_THRESHOLDS,
        validation_alias="K2_GOVERNOR_LAG_THRESHOLDS",
        description="records behind, from which SOFT,GRACEFUL,AGGRESSIVE,CIRCUIT_BREAK hold",
    )
    lag_scale: float = Field(
        1.0,
        gt=0,
        validation_alias="K2_GOVERNOR_LAG_SCALE",
        description="multiplies the lag thresholds: 0.01 shows all levels on a laptop",
    )
    memory_thresholds: FourThresholds = Field(
        MEMORY_THRESHOLDS,
        validation_alias="K2_GOVERNOR_MEMORY_THRESHOLDS",
        description="shares of a process' memory limit, from which the same levels hold",
    )
    cooldown_s: float = Field(
        30.0,
        gt=0,
        validation_alias="K2_GOVERNOR_COOLDOWN_S",
        description="rest below half a trigger before each step down",
    )
    ttl_s: float = Field(
        10.0,
        gt=0,
        validation_alias="K2_GOVERNOR_TTL_S",
        description="how long a directive holds without another",
    )
    sample_every_s: float = Field(
        0.4,
        gt=0,
        validation_alias="K2_GOVERNOR_SAMPLE_EVERY_S",
        description="time between readings of lag; two in a row raise the level",
    )

    @property
    def rules(self) -> Rules:
        lag = self.lag_thresholds.scaled(self.lag_scale)
        return Rules(lag, self.memory_thresholds, self.cooldown_s)
