"""The governor's configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from libs.degradation.level import LAG_THRESHOLDS, MEMORY_THRESHOLDS, Damping, Rules, Thresholds
from libs.degradation.machine import LONGEST_GAP_S
from libs.degradation.messages import STEADY_S
from libs.kafka.topics import TRADES_BINANCE
from libs.market.errors import ConfigError
from libs.runtime.config import Address, CommaList, ServiceConfig, grpc_field, metrics_field
from services.governor.deciding.background import Settings
from services.governor.deciding.replicas import ScaleRules
from services.governor.observing.sampler import FRESH_S
from services.governor.record.records import TOPIC


def _thresholds(value: object) -> object:
    try:
        return Thresholds.parse(value) if isinstance(value, str) else value
    except ConfigError as error:
        raise ValueError(error.message) from error


def _shares(thresholds: Thresholds) -> Thresholds:
    if thresholds.circuit_break > 1:
        raise ValueError(f"these are shares of a limit, 1 at most, not {thresholds}")
    return thresholds


FourThresholds = Annotated[Thresholds, BeforeValidator(_thresholds)]
FourShares = Annotated[FourThresholds, AfterValidator(_shares)]


class GovernorConfig(ServiceConfig):
    """What `python -m services.governor` reads."""

    name: str = Field(
        "governor-1",
        validation_alias="K2_SERVICE_NAME",
        description="name of this process, one of its kind (governor-1)",
    )
    grpc_address: Address = grpc_field("GOVERNOR", 7104)
    metrics_address: Address = metrics_field("GOVERNOR", 7204)
    advertised_address: Address | None = Field(
        None,
        validation_alias="K2_GOVERNOR_ADVERTISED_ADDRESS",
        description="where other machines reach its gRPC; without it where it listens",
    )
    directives_topic: str = Field(
        TOPIC,
        validation_alias="K2_GOVERNOR_DIRECTIVES_TOPIC",
        description="where the governors of one K2 record who leads and what is ordered",
    )
    policy: str = Field(
        "",
        validation_alias="K2_GOVERNOR_POLICY",
        description="version of the priority policy that every process must have; without it each"
        " goes by its own",
    )
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
    memory_thresholds: FourShares = Field(
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
        ge=2 * STEADY_S,
        validation_alias="K2_GOVERNOR_TTL_S",
        description="how long a directive holds without another",
    )
    sample_every_s: float = Field(
        0.3,
        gt=0,
        le=LONGEST_GAP_S / 2,
        validation_alias="K2_GOVERNOR_SAMPLE_EVERY_S",
        description="time between readings of lag; two in a row raise the level",
    )
    report_fresh_s: float = Field(
        FRESH_S,
        gt=0,
        validation_alias="K2_GOVERNOR_REPORT_FRESH_S",
        description="a report counts so long; then what the group has committed stands in",
    )
    lag_samples_up: int = Field(
        2,
        ge=1,
        validation_alias="K2_GOVERNOR_LAG_SAMPLES_UP",
        description="readings of lag in a row that raise the level",
    )
    recovery_share: float = Field(
        0.5,
        gt=0,
        le=1,
        validation_alias="K2_GOVERNOR_RECOVERY_SHARE",
        description="share of a trigger (for memory, from the baseline on) to fall below",
    )
    reversals_to_double: int = Field(
        4,
        ge=1,
        validation_alias="K2_GOVERNOR_REVERSALS_TO_DOUBLE",
        description="rises after a fall, within the window, that double the cooldown",
    )
    reversal_window_s: float = Field(
        600.0,
        gt=0,
        validation_alias="K2_GOVERNOR_REVERSAL_WINDOW_S",
        description="how long a reversal counts",
    )
    most_cooldown_factor: int = Field(
        4,
        ge=1,
        validation_alias="K2_GOVERNOR_MOST_COOLDOWN_FACTOR",
        description="reversals lengthen the cooldown up to this factor",
    )
    sink_down_failures: int = Field(
        3,
        ge=1,
        validation_alias="K2_GOVERNOR_SINK_DOWN_FAILURES",
        description="commits in a row that failed, from which shedding is known not to help",
    )
    hot_share: float = Field(
        0.8,
        gt=0,
        le=1,
        validation_alias="K2_GOVERNOR_HOT_SHARE",
        description="share of the lag in one partition, from which shedding helps there alone",
    )
    drain_s: float = Field(
        120.0,
        gt=0,
        validation_alias="K2_GOVERNOR_DRAIN_S",
        description="time in which as many writers as are asked for would drain the lag",
    )
    utilisation: float = Field(
        0.8,
        gt=0,
        le=1,
        validation_alias="K2_GOVERNOR_UTILISATION",
        description="share of what a writer can do that is planned with",
    )
    scale_up_after_s: float = Field(
        15.0,
        ge=0,
        validation_alias="K2_GOVERNOR_SCALE_UP_AFTER_S",
        description="more writers are asked for once they were wanted for so long",
    )
    scale_down_after_s: float = Field(
        300.0,
        ge=0,
        validation_alias="K2_GOVERNOR_SCALE_DOWN_AFTER_S",
        description="fewer writers are asked for once no more were wanted for so long",
    )

    @property
    def rules(self) -> Rules:
        lag = self.lag_thresholds.scaled(self.lag_scale)
        return Rules(
            lag,
            self.memory_thresholds,
            self.cooldown_s,
            Damping(
                self.recovery_share,
                self.reversals_to_double,
                self.reversal_window_s,
                self.most_cooldown_factor,
            ),
            self.lag_samples_up,
            self.sink_down_failures,
        )

    @property
    def settings(self) -> Settings:
        scale = ScaleRules(
            self.drain_s, self.utilisation, self.scale_up_after_s, self.scale_down_after_s
        )
        return Settings(self.hot_share, scale)
