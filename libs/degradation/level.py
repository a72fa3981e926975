"""The five levels, why one holds, and what triggers each."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Self

from libs.market.errors import ConfigError


class Level(IntEnum):
    """How far K2 has stepped back from its full work; a higher one demands more."""

    NORMAL = 0
    SOFT = 1
    GRACEFUL = 2
    AGGRESSIVE = 3
    CIRCUIT_BREAK = 4

    @property
    def below(self) -> Level:
        """One level lower; NORMAL stays."""
        return Level(max(self - 1, Level.NORMAL))


class Cause(StrEnum):
    """What makes a level hold, or changes what is to be done about it."""

    LAG = "LAG"
    MEMORY = "MEMORY"
    SINK_DOWN = "SINK_DOWN"
    HOT_PARTITION = "HOT_PARTITION"
    MISSING_DATA = "MISSING_DATA"
    HELD = "HELD"
    INGRESS_BURST = "INGRESS_BURST"
    SLOW_WRITER = "SLOW_WRITER"
    OVERRIDE = "OVERRIDE"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which value each level is demanded: records of lag, or a share of the memory limit."""

    soft: float
    graceful: float
    aggressive: float
    circuit_break: float

    def __post_init__(self) -> None:
        if not 0.0 < self.soft < self.graceful < self.aggressive < self.circuit_break:
            raise ConfigError(
                f"thresholds must be positive and rise from level to level, not {self}",
                thresholds=str(self),
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read four numbers, lowest level first, separated by commas.

        Raises:
            ConfigError: not four numbers, or they do not rise.
        """
        try:
            soft, graceful, aggressive, circuit_break = map(float, text.split(","))
        except ValueError as error:
            wanted = f"thresholds are four numbers separated by commas, not {text!r}"
            raise ConfigError(wanted, thresholds=text) from error
        return cls(soft, graceful, aggressive, circuit_break)

    @property
    def in_order(self) -> tuple[float, float, float, float]:
        return (self.soft, self.graceful, self.aggressive, self.circuit_break)

    def trigger(self, level: Level) -> float:
        """Value from which `level` is demanded; NORMAL is demanded from 0."""
        return 0.0 if level is Level.NORMAL else self.in_order[level - 1]

    def demanded(self, value: float) -> Level:
        """Highest level whose trigger `value` has reached."""
        return Level(sum(value >= trigger for trigger in self.in_order))

    def scaled(self, factor: float) -> Thresholds:
        """All four, multiplied."""
        return Thresholds(*(trigger * factor for trigger in self.in_order))

    def __str__(self) -> str:
        return ",".join(f"{trigger:.12g}" for trigger in self.in_order)


LAG_THRESHOLDS = Thresholds(100_000, 500_000, 1_000_000, 5_000_000)
MEMORY_THRESHOLDS = Thresholds(0.70, 0.80, 0.90, 0.95)


@dataclass(frozen=True, slots=True)
class Damping:
    """What keeps a level from flapping.

    A level may be left `recovery_share` of the way from the baseline to its trigger. A rise after
    a fall is a reversal; every `reversals_to_double` of them within the window double the cooldown.
    """

    recovery_share: float = 0.5
    reversals_to_double: int = 4
    reversal_window_s: float = 600.0
    most_cooldown_factor: int = 4


@dataclass(frozen=True, slots=True)
class Rules:
    """What the state machines go by; every directive carries them, so that all go by the same.

    One failed commit is a conflict; `sink_down_failures` in a row mean that the sink is down.
    """

    lag: Thresholds = LAG_THRESHOLDS
    memory: Thresholds = MEMORY_THRESHOLDS
    cooldown_s: float = 30.0
    damping: Damping = field(default_factory=Damping)
    lag_samples_up: int = 2
    sink_down_failures: int = 3
